//! What a queue pair is told at RTR and RTS, and the names it uses for errors, events and
//! counters. Knows the numbers of IBTA 9.7 and of the mlx5 CQE, nothing of queues or packets.

use std::time::Duration;

use crate::opcode::Service;

/// Unacknowledged SEND, WRITE and ATOMIC packets a requester keeps in flight. READ responses
/// are not counted: the responder paces them.
pub const SEND_WINDOW: u32 = 128;

/// Longest distance between the oldest unacknowledged PSN and the end of a new READ: half of
/// what PSN comparison allows, and exactly the largest message (2^30) at the smallest MTU.
pub const MAX_PSN_SPAN: u32 = 1 << 22;

/// `log_msg_max` beyond this is treated as this: a message is at most 2^30 bytes.
pub const LOG_MSG_MAX: u8 = 30;

/// Attributes of an RC, XRC or UC connection, from the QP context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RcParams {
    /// `Rc`, `Xrc` or `Uc`; selects the opcodes.
    pub service: Service,
    /// Destination QP, 24 bits.
    pub remote_qpn: u32,
    /// Partition key put into every packet.
    pub pkey: u16,
    /// MigReq bit put into every packet.
    pub mig_req: bool,
    /// Path MTU, bytes of payload: 256, 512, 1024, 2048 or 4096.
    pub mtu: u32,
    /// Transport retries, 0..=7.
    pub retry_count: u8,
    /// RNR retries, 0..=6, 7 for ever.
    pub rnr_retry: u8,
    /// Local ACK timeout, 4.096 µs · 2^n; 0 waits for ever.
    pub ack_timeout: u8,
    /// READs and ATOMICs this requester may have outstanding (at least 1).
    pub max_rd_atomic: u32,
    /// READs and ATOMICs this responder accepts outstanding (at least 1).
    pub max_dest_rd_atomic: u32,
    /// A requester asks for an ACK at least every 2^n packets.
    pub log_ack_req_freq: u8,
    /// Longest message, 2^n bytes.
    pub log_msg_max: u8,
    /// Timer code this responder puts into an RNR NAK, 0..=31.
    pub min_rnr_timer: u8,
    /// Incoming READ allowed (qpc.rre).
    pub remote_read: bool,
    /// Incoming WRITE allowed (qpc.rwe).
    pub remote_write: bool,
    /// Incoming ATOMIC allowed (qpc.rae with a non-zero atomic mode).
    pub remote_atomic: bool,
}

impl Default for RcParams {
    fn default() -> RcParams {
        RcParams {
            service: Service::Rc,
            remote_qpn: 0,
            pkey: 0xffff,
            mig_req: true,
            mtu: 1024,
            retry_count: 7,
            rnr_retry: 7,
            ack_timeout: 14,
            max_rd_atomic: 16,
            max_dest_rd_atomic: 16,
            log_ack_req_freq: 8,
            log_msg_max: LOG_MSG_MAX,
            min_rnr_timer: 12,
            remote_read: true,
            remote_write: true,
            remote_atomic: true,
        }
    }
}

impl RcParams {
    /// Longest message in bytes.
    #[must_use]
    pub fn max_message(&self) -> u32 {
        1 << self.log_msg_max.min(LOG_MSG_MAX)
    }

    /// Local ACK timeout, `None` if it never expires.
    #[must_use]
    pub fn ack_timeout(&self) -> Option<Duration> {
        match self.ack_timeout {
            0 => None,
            n => Some(Duration::from_nanos(4096 << n.min(31))),
        }
    }

    /// The same parameters with every value in the range the state machines rely on.
    #[must_use]
    pub(crate) fn sanitized(mut self) -> RcParams {
        self.mtu = self.mtu.clamp(256, 4096);
        self.remote_qpn &= 0x00ff_ffff;
        self.max_rd_atomic = self.max_rd_atomic.clamp(1, 256);
        self.max_dest_rd_atomic = self.max_dest_rd_atomic.clamp(1, 256);
        self.min_rnr_timer &= 0x1f;
        self
    }

    /// Packets of a message of `len` bytes; a message without payload is one packet.
    #[must_use]
    pub fn packets(&self, len: u32) -> u32 {
        len.div_ceil(self.mtu).max(1)
    }
}

/// How long an RNR NAK with timer code `code` asks to wait, IBTA table 45.
#[must_use]
pub fn rnr_timer(code: u8) -> Duration {
    const UNITS_OF_10_US: [u32; 32] = [
        65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
        1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152,
    ];
    Duration::from_micros(10) * UNITS_OF_10_US[usize::from(code & 0x1f)]
}

/// Why a work request failed; the names of the verbs work completion errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the standard's
pub enum WcError {
    LocalLength,
    LocalQpOp,
    LocalProtection,
    WrFlush,
    MwBind,
    BadResponse,
    LocalAccess,
    RemoteInvalidRequest,
    RemoteAccess,
    RemoteOperation,
    RetryExceeded,
    RnrRetryExceeded,
}

impl WcError {
    /// The syndrome of an mlx5 error CQE (offset 0x37).
    #[must_use]
    pub const fn syndrome(self) -> u8 {
        match self {
            WcError::LocalLength => 0x01,
            WcError::LocalQpOp => 0x02,
            WcError::LocalProtection => 0x04,
            WcError::WrFlush => 0x05,
            WcError::MwBind => 0x06,
            WcError::BadResponse => 0x10,
            WcError::LocalAccess => 0x11,
            WcError::RemoteInvalidRequest => 0x12,
            WcError::RemoteAccess => 0x13,
            WcError::RemoteOperation => 0x14,
            WcError::RetryExceeded => 0x15,
            WcError::RnrRetryExceeded => 0x16,
        }
    }

    /// What hardware is usually seen to put into `vendor_err_synd` (offset 0x36) beside it.
    #[must_use]
    pub const fn vendor_syndrome(self) -> u8 {
        match self {
            WcError::LocalLength | WcError::LocalQpOp => 0x68,
            WcError::LocalProtection => 0x51,
            WcError::WrFlush => 0xf9,
            WcError::MwBind => 0x78,
            WcError::BadResponse => 0,
            WcError::LocalAccess => 0x89,
            WcError::RemoteInvalidRequest => 0x8a,
            WcError::RemoteAccess => 0x88,
            WcError::RemoteOperation => 0x8b,
            WcError::RetryExceeded => 0x81,
            WcError::RnrRetryExceeded => 0x87,
        }
    }
}

/// Why a responder cannot serve a memory access asked for by its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemoteFault {
    /// R_Key, protection domain, bounds or rights: NAK remote access, 0x62.
    Access,
    /// The memory is there by right but cannot be reached: NAK remote operational, 0x63.
    Operational,
}

/// Asynchronous event a responder's fatal error calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QpEvent {
    /// None: a receive completion carries the error.
    None,
    /// Invalid request local work queue error (mlx5 WQ_INVAL_REQ, 0x10).
    InvalidRequest,
    /// Local access violation work queue error (mlx5 WQ_ACCESS, 0x11).
    Access,
    /// Local work queue catastrophic error (mlx5 WQ_CATAS, 0x05).
    Catas,
}

/// What became of an incoming request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// Nothing the queue pair has to act on.
    Ok,
    /// The queue pair goes to the error state. A NAK may be waiting in `poll_transmit`.
    Fatal {
        /// Event to report.
        event: QpEvent,
    },
}

/// Q counters a transport advances; names of QUERY_Q_COUNTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the firmware command's
pub enum Counter {
    RxWriteRequests,
    RxReadRequests,
    RxAtomicRequests,
    OutOfBuffer,
    OutOfSequence,
    DuplicateRequest,
    RnrNakRetryErr,
    PacketSeqErr,
    ImpliedNakSeqErr,
    LocalAckTimeoutErr,
    ReqRnrRetriesExceeded,
    ReqTransportRetriesExceeded,
    ReqLocalLengthError,
    ReqLocalProtection,
    LocalOperationError,
    ReqMwBinding,
    ReqBadResponse,
    ReqRemoteInvalidRequest,
    ReqRemoteAccessErrors,
    ReqRemoteOperationErrors,
    RespLocalLengthError,
    RespLocalProtection,
    RespLocalQpError,
    RespRemoteInvalidRequest,
    RespRemoteAccessErrors,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_timeout_is_4096_ns_doubled() {
        let at = |n| {
            RcParams {
                ack_timeout: n,
                ..RcParams::default()
            }
            .ack_timeout()
        };
        assert_eq!(at(0), None);
        assert_eq!(at(1), Some(Duration::from_nanos(8192)));
        assert_eq!(at(14), Some(Duration::from_nanos(67_108_864)));
        assert_eq!(at(31), Some(Duration::from_nanos(8_796_093_022_208)));
    }

    #[test]
    fn rnr_timer_table() {
        assert_eq!(rnr_timer(0), Duration::from_micros(655_360));
        assert_eq!(rnr_timer(1), Duration::from_micros(10));
        assert_eq!(rnr_timer(12), Duration::from_micros(640));
        assert_eq!(rnr_timer(31), Duration::from_micros(491_520));
        assert_eq!(rnr_timer(0x21), rnr_timer(1));
    }

    #[test]
    fn every_message_is_at_least_one_packet() {
        let params = RcParams {
            mtu: 256,
            ..RcParams::default()
        };
        assert_eq!(params.packets(0), 1);
        assert_eq!(params.packets(256), 1);
        assert_eq!(params.packets(257), 2);
        assert_eq!(params.packets(1 << 30), 1 << 22);
    }
}
