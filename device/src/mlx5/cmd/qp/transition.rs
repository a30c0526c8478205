//! The transitions of a queue pair's state machine: which fields each takes over, and what it sets going. Knows contexts,
//! not commands.

use rocinante_firmware_cmd::mlx5::qp::Qpc;
use rocinante_firmware_cmd::mlx5::status::CmdError;
use rocinante_wire::opcode::Service;
use rocinante_wire::psn::Psn;
use rocinante_wire::transport::RcParams;

use super::{MODIFY_DEPTH, MODIFY_MTU};
use crate::mlx5::core::Core;
use crate::mlx5::qp::path::Path;
use crate::mlx5::qp::{Engine, Qp, ServiceType, State};

/// Deepest READ/ATOMIC pipeline, log2 (`log_max_ra_req_qp`, `log_max_ra_res_qp`).
const LOG_MAX_RD_ATOMIC: u8 = 4;

/// Bits of `opt_param_mask`.
mod opt {
    pub const RRE: u32 = 1 << 1;
    pub const RAE: u32 = 1 << 2;
    pub const RWE: u32 = 1 << 3;
    pub const PKEY_INDEX: u32 = 1 << 4;
    pub const Q_KEY: u32 = 1 << 5;
    pub const RNR_TIMEOUT: u32 = 1 << 6;
    pub const PRI_PORT: u32 = 1 << 16;
    pub const COUNTER_SET_ID: u32 = 1 << 25;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    RstToInit,
    InitToInit,
    InitToRtr,
    RtrToRts,
    RtsToRts,
    SqErrToRts,
}

impl Transition {
    pub(super) fn from(self) -> State {
        match self {
            Transition::RstToInit => State::Reset,
            Transition::InitToInit | Transition::InitToRtr => State::Init,
            Transition::RtrToRts => State::Rtr,
            Transition::RtsToRts => State::Rts,
            Transition::SqErrToRts => State::SqErr,
        }
    }
}

/// Takes over the fields of `new` that the transition requires or `mask` selects.
pub(super) fn merge(context: &mut [u8; 0xe8], transition: Transition, mask: u32, new: &Qpc<&[u8]>) {
    let has = |bit: u32| mask & bit != 0;
    let mut qpc = Qpc::new(&mut context[..]);
    // Repeated in every transition; zero where a driver leaves them out.
    if new.pd() != 0 {
        qpc.set_pd(new.pd());
    }
    if new.cqn_snd() != 0 {
        qpc.set_cqn_snd(new.cqn_snd());
    }
    if new.cqn_rcv() != 0 {
        qpc.set_cqn_rcv(new.cqn_rcv());
    }
    let first = transition == Transition::RstToInit;
    if first {
        qpc.set_pm_state(new.pm_state());
        let path = new.primary_address_path();
        qpc.primary_address_path_mut()
            .set_pkey_index(path.pkey_index());
        qpc.primary_address_path_mut()
            .set_vhca_port_num(path.vhca_port_num());
        qpc.set_counter_set_id(new.counter_set_id());
        qpc.set_deth_sqpn(new.deth_sqpn());
        if new.rlky() {
            qpc.set_rlky(true);
        }
        if new.dbr_addr() != 0 {
            qpc.set_dbr_addr(new.dbr_addr());
        }
    }
    if transition == Transition::InitToRtr {
        qpc.set_mtu(new.mtu());
        qpc.set_log_msg_max(new.log_msg_max());
        qpc.set_remote_qpn(new.remote_qpn());
        qpc.set_next_rcv_psn(new.next_rcv_psn());
        qpc.set_log_rra_max(new.log_rra_max());
        qpc.set_min_rnr_nak(new.min_rnr_nak());
        let (pkey, port) = {
            let old = qpc.primary_address_path();
            (old.pkey_index(), old.vhca_port_num())
        };
        let path = new.primary_address_path();
        let mut own = qpc.primary_address_path_mut();
        own.assign(&path);
        own.set_pkey_index(pkey);
        if path.vhca_port_num() == 0 {
            own.set_vhca_port_num(port);
        }
    }
    if transition == Transition::RtrToRts {
        qpc.set_next_send_psn(new.next_send_psn());
        qpc.set_retry_count(new.retry_count());
        qpc.set_rnr_retry(new.rnr_retry());
        qpc.set_log_sra_max(new.log_sra_max());
        qpc.set_log_ack_req_freq(new.log_ack_req_freq());
        let timeout = new.primary_address_path().ack_timeout();
        qpc.primary_address_path_mut().set_ack_timeout(timeout);
    }
    if first || has(opt::RRE) {
        qpc.set_rre(new.rre());
    }
    if first || has(opt::RWE) {
        qpc.set_rwe(new.rwe());
    }
    if first || has(opt::RAE) {
        qpc.set_rae(new.rae());
        qpc.set_atomic_mode(new.atomic_mode());
    }
    if first || has(opt::Q_KEY) {
        qpc.set_q_key(new.q_key());
    }
    if has(opt::RNR_TIMEOUT) {
        qpc.set_min_rnr_nak(new.min_rnr_nak());
    }
    if has(opt::PKEY_INDEX) {
        let index = new.primary_address_path().pkey_index();
        qpc.primary_address_path_mut().set_pkey_index(index);
    }
    if has(opt::PRI_PORT) {
        let port = new.primary_address_path().vhca_port_num();
        qpc.primary_address_path_mut().set_vhca_port_num(port);
    }
    if has(opt::COUNTER_SET_ID) {
        qpc.set_counter_set_id(new.counter_set_id());
    }
}

pub(super) fn check(
    qpc: &Qpc<&[u8]>,
    transition: Transition,
    service: ServiceType,
) -> Result<(), CmdError> {
    let connects = transition == Transition::InitToRtr && service != ServiceType::RegUmr;
    if connects && !(1..=5).contains(&qpc.mtu()) {
        return Err(MODIFY_MTU);
    }
    if qpc.log_rra_max() > LOG_MAX_RD_ATOMIC || qpc.log_sra_max() > LOG_MAX_RD_ATOMIC {
        return Err(MODIFY_DEPTH);
    }
    Ok(())
}

/// Does what entering the next state takes.
pub(super) fn enter(qp: &mut Qp, core: &mut Core, transition: Transition) {
    let qpc = Qpc::new(&qp.context[..]);
    let params = params(&qpc, qp.attr.service);
    match transition {
        Transition::RstToInit => {
            qp.state = State::Init;
            qp.doorbell_record = qpc.dbr_addr();
            if let Some(queue) = &mut qp.receive.queue {
                queue.set_doorbell_record(qpc.dbr_addr());
            }
        }
        Transition::InitToInit => {}
        Transition::InitToRtr => {
            qp.state = State::Rtr;
            let psn = Psn::new(qpc.next_rcv_psn());
            match &mut qp.engine {
                Engine::Reliable { responder, .. } => responder.configure_rtr(psn, &params),
                Engine::Unreliable { responder, .. } => responder.configure_rtr(psn, &params),
                Engine::Datagram => {}
            }
            if matches!(
                qp.attr.service,
                ServiceType::Rc | ServiceType::Uc | ServiceType::Xrc
            ) {
                let ads = qpc.primary_address_path();
                qp.path = Path::resolve(&core.roce, &ads, qp.attr.qpn, qpc.remote_qpn());
            }
        }
        Transition::RtrToRts => {
            qp.state = State::Rts;
            let psn = Psn::new(qpc.next_send_psn());
            match &mut qp.engine {
                Engine::Reliable { requester, .. } => requester.configure_rts(psn, &params),
                Engine::Unreliable { requester, .. } => requester.configure_rts(psn, &params),
                Engine::Datagram => {}
            }
        }
        Transition::RtsToRts | Transition::SqErrToRts => {
            qp.state = State::Rts;
            qp.failure = None;
        }
    }
    match &mut qp.engine {
        Engine::Reliable { responder, .. } => {
            let RcParams {
                remote_read,
                remote_write,
                remote_atomic,
                ..
            } = params;
            responder.set_access(remote_read, remote_write, remote_atomic);
            responder.set_min_rnr_timer(params.min_rnr_timer);
        }
        Engine::Unreliable { responder, .. } => responder.set_access(params.remote_write),
        Engine::Datagram => {}
    }
}

/// Transport parameters of a context.
fn params(qpc: &Qpc<&[u8]>, service: ServiceType) -> RcParams {
    /// `pm_state` migrated.
    const MIGRATED: u8 = 3;
    RcParams {
        service: match service {
            ServiceType::Uc => Service::Uc,
            ServiceType::Xrc => Service::Xrc,
            ServiceType::Ud | ServiceType::Gsi => Service::Ud,
            ServiceType::Rc | ServiceType::RegUmr => Service::Rc,
        },
        remote_qpn: qpc.remote_qpn(),
        pkey: 0xffff,
        mig_req: qpc.pm_state() == MIGRATED,
        mtu: 128 << qpc.mtu().clamp(1, 5),
        retry_count: qpc.retry_count(),
        rnr_retry: qpc.rnr_retry(),
        ack_timeout: qpc.primary_address_path().ack_timeout(),
        max_rd_atomic: 1 << qpc.log_sra_max(),
        max_dest_rd_atomic: 1 << qpc.log_rra_max(),
        log_ack_req_freq: qpc.log_ack_req_freq(),
        log_msg_max: qpc.log_msg_max(),
        min_rnr_timer: qpc.min_rnr_nak(),
        remote_read: qpc.rre(),
        remote_write: qpc.rwe(),
        remote_atomic: qpc.rae(),
    }
}
