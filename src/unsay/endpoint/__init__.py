"""Talking to OpenAI-compatible chat servers: one client, shared by the endpoint judge and the endpoint responder."""

from unsay.endpoint.client import ChatClient, Completion, cut_off
from unsay.endpoint.faults import PASSING, Deviations, EndpointError, Fault, sent_instead
from unsay.endpoint.parallel import in_parallel
from unsay.endpoint.settings import EndpointSettings, Meter

__all__ = [
    "PASSING",
    "ChatClient",
    "Completion",
    "Deviations",
    "EndpointError",
    "EndpointSettings",
    "Fault",
    "Meter",
    "cut_off",
    "in_parallel",
    "sent_instead",
]
