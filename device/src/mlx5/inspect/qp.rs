//! Queue pairs.

use rocinante_firmware_cmd::mlx5::qp::Qpc;
use rocinante_wire::transport::WcError;
use serde::Serialize;

use super::gid_text;
use super::queue::Work;
use crate::mlx5::core::Core;
use crate::mlx5::notes::Failure;
use crate::mlx5::qp::{Engine, Qp, ServiceType, State};

/// A queue pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)] // the names are those of verbs and of the context
pub struct QpInfo {
    pub qpn: u32,
    /// RC, UC, UD, XRC, GSI (QP 1) or REG_UMR.
    pub service: &'static str,
    pub state: &'static str,
    pub pd: u32,
    pub send_cq: u32,
    pub receive_cq: u32,
    pub srq: Option<u32>,
    pub q_counter: Option<u8>,
    /// Path MTU in bytes.
    pub mtu: u32,
    pub send: Option<Work>,
    pub receive: Option<Work>,
    /// Work requests taken from the send queue that have not completed.
    pub outstanding: usize,
    pub next_send_psn: Option<u32>,
    pub last_acked_psn: Option<u32>,
    pub next_receive_psn: Option<u32>,
    /// Messages started by the requester.
    pub ssn: Option<u32>,
    /// Messages completed by the responder.
    pub msn: Option<u32>,
    /// Retries left before the oldest request fails.
    pub retries_left: Option<u8>,
    pub rnr_retries_left: Option<u8>,
    /// Nanoseconds until the local ACK timeout or the end of an RNR wait; 0 if it is due.
    pub timeout_in: Option<u64>,
    /// Where a connected queue pair's packets go.
    pub path: Option<PathInfo>,
    /// Why it is in an error state.
    pub failure: Option<FailureInfo>,
}

/// A connection's addresses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct PathInfo {
    pub remote_qpn: u32,
    pub local_gid: String,
    pub remote_gid: String,
    pub remote_mac: String,
}

/// Why a queue pair failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailureInfo {
    /// The status of the work request that failed, as verbs name it (`IBV_WC_RETRY_EXC_ERR`).
    pub status: Option<&'static str>,
    /// The syndrome of its completion.
    pub syndrome: Option<u8>,
    /// The event that the driver got.
    pub event: Option<String>,
    /// Whose fault: `requester`, `responder`, or `command` if the driver asked for it.
    pub side: &'static str,
}

impl FailureInfo {
    /// Of a queue pair in error.
    pub fn of(failure: &Failure) -> FailureInfo {
        let side = match failure {
            Failure {
                responder: true, ..
            } => "responder",
            Failure {
                status: None,
                event: None,
                ..
            } => "command",
            _ => "requester",
        };
        FailureInfo {
            status: failure.status.map(wc_status),
            syndrome: failure.status.map(WcError::syndrome),
            event: failure.event.map(|event| format!("{event:?}")),
            side,
        }
    }
}

/// The status of a work completion, as verbs name it.
pub fn wc_status(error: WcError) -> &'static str {
    match error {
        WcError::LocalLength => "IBV_WC_LOC_LEN_ERR",
        WcError::LocalQpOp => "IBV_WC_LOC_QP_OP_ERR",
        WcError::LocalProtection => "IBV_WC_LOC_PROT_ERR",
        WcError::WrFlush => "IBV_WC_WR_FLUSH_ERR",
        WcError::MwBind => "IBV_WC_MW_BIND_ERR",
        WcError::BadResponse => "IBV_WC_BAD_RESP_ERR",
        WcError::LocalAccess => "IBV_WC_LOC_ACCESS_ERR",
        WcError::RemoteInvalidRequest => "IBV_WC_REM_INV_REQ_ERR",
        WcError::RemoteAccess => "IBV_WC_REM_ACCESS_ERR",
        WcError::RemoteOperation => "IBV_WC_REM_OP_ERR",
        WcError::RetryExceeded => "IBV_WC_RETRY_EXC_ERR",
        WcError::RnrRetryExceeded => "IBV_WC_RNR_RETRY_EXC_ERR",
    }
}

fn service(service: ServiceType) -> &'static str {
    match service {
        ServiceType::Rc => "RC",
        ServiceType::Uc => "UC",
        ServiceType::Ud => "UD",
        ServiceType::Xrc => "XRC",
        ServiceType::Gsi => "GSI",
        ServiceType::RegUmr => "REG_UMR",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Reset => "RESET",
        State::Init => "INIT",
        State::Rtr => "RTR",
        State::Rts => "RTS",
        State::SqErr => "SQE",
        State::Err => "ERR",
    }
}

impl QpInfo {
    /// Of queue pair `qpn`.
    pub(super) fn of(qpn: u32, qp: &Qp, core: &Core) -> QpInfo {
        let qpc = Qpc::new(&qp.context[..]);
        let attr = &qp.attr;
        let mut info = QpInfo {
            qpn,
            service: service(attr.service),
            state: state(qp.state),
            pd: attr.pd,
            send_cq: attr.cqn_send,
            receive_cq: attr.cqn_receive,
            srq: attr.srqn,
            q_counter: (attr.counters != 0).then_some(attr.counters),
            mtu: attr.mtu,
            send: qp
                .send
                .ring
                .as_ref()
                .map(|ring| Work::of_send(ring, qp.doorbell_record, &core.mem)),
            receive: qp
                .receive
                .queue
                .as_ref()
                .map(|queue| Work::of_receive(queue, &core.mem)),
            outstanding: qp.send.inflight.len(),
            next_send_psn: None,
            last_acked_psn: None,
            next_receive_psn: None,
            ssn: None,
            msn: None,
            retries_left: None,
            rnr_retries_left: None,
            timeout_in: None,
            path: qp.path.as_ref().map(|path| PathInfo {
                remote_qpn: qpc.remote_qpn(),
                local_gid: gid_text(&path.local.0),
                remote_gid: gid_text(&path.remote.0),
                remote_mac: path.dst_mac.to_string(),
            }),
            failure: qp.failure.as_ref().map(FailureInfo::of),
        };
        match &qp.engine {
            Engine::Reliable {
                requester,
                responder,
            } => {
                if requester.is_running() || requester.is_error() {
                    info.next_send_psn = Some(requester.next_send_psn().get());
                    info.last_acked_psn = Some(requester.last_acked_psn().get());
                    info.ssn = Some(requester.ssn());
                    let (retries, rnr) = requester.retries_left();
                    info.retries_left = Some(retries);
                    info.rnr_retries_left = Some(rnr);
                    let due = requester.next_timeout();
                    info.timeout_in = due.map(|due| due.0.saturating_sub(core.now.0));
                }
                if responder.is_running() {
                    info.next_receive_psn = Some(responder.next_rcv_psn().get());
                    info.msn = Some(responder.msn());
                }
            }
            Engine::Unreliable {
                requester,
                responder,
            } => {
                if requester.is_running() {
                    info.next_send_psn = Some(requester.next_send_psn().get());
                }
                if responder.is_running() {
                    info.next_receive_psn = Some(responder.next_rcv_psn().get());
                }
            }
            Engine::Datagram => {}
        }
        info
    }
}
