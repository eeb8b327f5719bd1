"""OpenAI-compatible chat servers: one client for the judge and the responder behind a server."""

from unsay.endpoint.client import ChatClient, Completion, EndpointSettings, Meter, cut_off_error
from unsay.endpoint.faults import PASSING, EndpointError, Fault, IgnoredParameters, describe_ignored
from unsay.endpoint.parallel import in_parallel

__all__ = [
    "PASSING",
    "ChatClient",
    "Completion",
    "EndpointError",
    "EndpointSettings",
    "Fault",
    "IgnoredParameters",
    "Meter",
    "cut_off_error",
    "describe_ignored",
    "in_parallel",
]
