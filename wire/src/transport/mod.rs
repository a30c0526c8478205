//! The transport state machines: RC requester and responder, UC. Sans-I/O: no clock, no memory, no frame.
//!
//! Time and packets come in as parameters, packets are polled out, and memory and queues are
//! behind [`RequesterHost`] and [`ResponderHost`].

pub(crate) mod aeth;
mod config;
mod host;
mod message;
mod requester;
mod responder;
mod uc;

#[cfg(test)]
mod tests;

pub use config::{
    Counter, LOG_MSG_MAX, MAX_PSN_SPAN, Outcome, QpEvent, RcParams, RemoteFault, SEND_WINDOW,
    WcError, rnr_timer,
};
pub use host::{Access, AtomicOp, Begin, RecvDone, RecvKind, RequesterHost, ResponderHost};
pub use requester::{Fence, Full, Requester, SendOp, SendWr, TxPacket};
pub use responder::{Responder, Source, TxResponse};
pub use uc::{UcRequester, UcResponder};
