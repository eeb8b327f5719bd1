"""Talking to OpenAI-compatible chat servers: one client, shared by the endpoint judge and the endpoint responder."""

from unsay.endpoint.client import ChatClient, Completion, EndpointError
from unsay.endpoint.meter import Meter
from unsay.endpoint.parallel import in_parallel
from unsay.endpoint.settings import EndpointSettings

__all__ = ["ChatClient", "Completion", "EndpointError", "EndpointSettings", "Meter", "in_parallel"]
