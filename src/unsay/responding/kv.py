"""Keys and values in a buffer that is as long as they will ever become.

transformers' growing cache copies everything it holds for every new token. For a batch of pictures that is hundreds of
megabytes a token, on the CPU a third of the time.
"""

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, [B, heads, room, D], of which the first `length` positions are filled.

    Args:
        room: positions there will ever be.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length = room, 0
        self.buffers: tuple[Tensor, ...] = ()

    def begin(self, rows: int, keys: Tensor, values: Tensor) -> None:
        """Give `rows` rows the keys and values, [1, heads, P, D], of a prefix that all of them share."""
        self.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the buffers, of the kind of the first keys and values."""
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        self.buffers = tuple(
            part.new_empty(*part.shape[:2], self.room, part.shape[-1]) for part in (key_states, value_states)
        )

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write new positions behind the old ones; returns views of all that are filled."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        for buffer, part in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = part
        self.length = end
        self._show()
        return self.keys, self.values

    def keep(self, rows: Tensor) -> None:
        """Drop every row but these, and their memory."""
        kept = []
        for buffer in self.buffers:
            smaller = buffer.new_empty(len(rows), *buffer.shape[1:])
            smaller[:, :, : self.length] = buffer[rows, :, : self.length]
            kept.append(smaller)
        self.buffers = tuple(kept)
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)


def plain_cache(config: object) -> bool:
    """Whether a model of this text configuration keeps plain keys and values in every layer: no windows, no states."""
    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def roomy(layers: int, room: int) -> DynamicCache:
    """An empty cache with room for `room` positions."""
    cache = DynamicCache()
    cache.layers = [RoomyLayer(room) for _ in range(layers)]
    return cache


def keep_rows(cache: DynamicCache, rows: Tensor) -> None:
    """Drop every row but these from all layers."""
    for layer in cache.layers:
        layer.keep(rows)
