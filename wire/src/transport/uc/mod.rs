//! Unreliable connection, IBTA 9.8: RC's SEND and WRITE without anybody answering.

mod requester;
mod responder;

pub use requester::UcRequester;
pub use responder::UcResponder;
