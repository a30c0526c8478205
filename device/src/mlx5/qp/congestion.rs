//! Congestion of RoCE v2: packets that a switch has marked are answered with notifications, and
//! notifications are counted. Nothing here is slowed down by them: no rate is limited.
//! Source: IBTA annex A17.9, names of QUERY_CONG_STATISTICS in Linux `mlx5_ifc.h`.

use std::time::Duration;

use rocinante_wire::cnp::cnp;
use rocinante_wire::opcode::{Op, Opcode};
use rocinante_wire::roce::RoceFrame;

use super::{Engine, Qp};
use crate::mlx5::core::Core;

/// "Congestion experienced".
pub const CE: u8 = 3;

/// A queue pair's peer is not told more often than this (`min_time_between_cnps` of adapters as
/// they come).
const INTERVAL: Duration = Duration::from_micros(4);

/// What QUERY_CONG_STATISTICS tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Congestion {
    /// Notifications for queue pairs that cannot heed them.
    pub rp_cnp_ignored: u64,
    /// Notifications for queue pairs that send.
    pub rp_cnp_handled: u64,
    /// Packets that came marked.
    pub np_ecn_marked_roce_packets: u64,
    /// Notifications sent.
    pub np_cnp_sent: u64,
}

/// A marked packet has come for a connected queue pair.
#[cold]
pub fn marked(qp: &mut Qp, core: &mut Core, roce: &RoceFrame) {
    core.congestion.np_ecn_marked_roce_packets += 1;
    let remote = match &qp.engine {
        Engine::Reliable { requester, .. } => requester.params().remote_qpn,
        _ => return,
    };
    // Answers are not slowed down by notifications, other than the data of READs.
    let Opcode::Ib(_, op) = roce.packet.opcode else {
        return;
    };
    let too_early = qp
        .notified
        .is_some_and(|last| core.now.since(last) < INTERVAL);
    if too_early || op == Op::Acknowledge || op == Op::AtomicAcknowledge {
        return;
    }
    if let Some(frame) = cnp(roce, remote) {
        qp.notified = Some(core.now);
        core.congestion.np_cnp_sent += 1;
        core.send(frame);
    }
}

/// A notification has come.
#[cold]
pub fn notified(qp: &Qp, core: &mut Core) {
    if qp.state.sends() && matches!(qp.engine, Engine::Reliable { .. }) {
        core.congestion.rp_cnp_handled += 1;
    } else {
        core.congestion.rp_cnp_ignored += 1;
    }
}
