//! Tests of the transport as a whole: the rules one by one, two endpoints over a bad link, and
//! packets nobody should send.

mod host;
mod hostile;
mod pair;
mod plan;
mod requester_reads;
mod requester_retry;
mod requester_sends;
mod responder_errors;
mod responder_order;
mod responder_rules;
mod uc_rules;
