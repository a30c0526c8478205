//! The transport state machines: RC requester and responder, UC. Sans-I/O: no clock, no memory, no frame.
