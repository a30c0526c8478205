//! Q counter sets, vport counters, vNIC diagnostics.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::resources::{
    AllocQCounterOut, DeallocQCounterIn, QueryCongParamsIn, QueryCongParamsOut,
    QueryCongStatisticsIn, QueryCongStatisticsOut, QueryQCounterIn, QueryQCounterOut,
};
use rocinante_firmware_cmd::mlx5::vport::{
    QueryVnicEnvIn, QueryVnicEnvOut, QueryVportCounterIn, QueryVportCounterOut, TrafficCounter,
};

use super::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::counters::{QCounters, Traffic, VportCounters};
use crate::mlx5::qp::congestion::Congestion;

checks! {
    AllocQCounter { LIMIT = 1, Lim, "all Q counter sets are in use"; }
    DeallocQCounter { NO_SET = 1, BadRes, "no such Q counter set"; }
    QueryQCounter {
        QUERY_NO_SET = 1, BadRes, "no such Q counter set";
        QUERY_OTHER = 2, BadParam, "there is no other vport";
    }
    QueryVportCounter { VPORT_OTHER = 1, BadParam, "there is no other vport"; }
    QueryVnicEnv { ENV_OTHER = 1, BadParam, "there is no other vport"; }
}

/// ALLOC_Q_COUNTER.
pub fn alloc_q_counter(core: &mut Core, output: &mut [u8]) -> Result<(), CmdError> {
    let id = core.numbers.q_counter.alloc().ok_or(LIMIT)?;
    core.q_counters.insert(id, QCounters::default());
    AllocQCounterOut::new(output).set_counter_set_id(id as u8);
    Ok(())
}

/// DEALLOC_Q_COUNTER. Queues that still name the set count nowhere from now on.
pub fn dealloc_q_counter(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let id = u32::from(DeallocQCounterIn::new(input).counter_set_id());
    core.q_counters.remove(id).ok_or(NO_SET)?;
    core.numbers.q_counter.free(id);
    Ok(())
}

macro_rules! put_q_counters {
    ($out:ident, $counters:ident: $($name:ident)*) => { pastey::paste! {
        $($out.[<set_ $name>]($counters.$name);)*
    }};
}

/// QUERY_Q_COUNTER.
pub fn query_q_counter(core: &mut Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let query = QueryQCounterIn::new(input);
    if query.other_vport() {
        return Err(QUERY_OTHER);
    }
    let id = u32::from(query.counter_set_id());
    let counters = core.q_counters.get_mut(id).ok_or(QUERY_NO_SET)?;
    let mut out = QueryQCounterOut::new(output);
    put_q_counters! { out, counters:
        rx_write_requests rx_read_requests rx_atomic_requests rx_dct_connect out_of_buffer
        out_of_sequence duplicate_request rnr_nak_retry_err packet_seq_err implied_nak_seq_err
        local_ack_timeout_err req_rnr_retries_exceeded resp_local_length_error
        req_local_length_error resp_local_qp_error local_operation_error resp_local_protection
        req_local_protection resp_cqe_error req_cqe_error req_mw_binding req_bad_response
        req_remote_invalid_request resp_remote_invalid_request req_remote_access_errors
        resp_remote_access_errors req_remote_operation_errors req_transport_retries_exceeded
        cq_overflow resp_cqe_flush_error req_cqe_flush_error roce_adp_retrans roce_adp_retrans_to
        roce_slow_restart roce_slow_restart_cnps roce_slow_restart_trans
    }
    if query.clear() {
        *counters = QCounters::default();
    }
    Ok(())
}

/// QUERY_CONG_STATISTICS.
pub fn query_cong_statistics(
    core: &mut Core,
    input: &[u8],
    output: &mut [u8],
) -> Result<(), CmdError> {
    let counters = &mut core.congestion;
    QueryCongStatisticsOut::new(output)
        .set_rp_cnp_ignored(counters.rp_cnp_ignored)
        .set_rp_cnp_handled(counters.rp_cnp_handled)
        .set_np_ecn_marked_roce_packets(counters.np_ecn_marked_roce_packets)
        .set_np_cnp_sent(counters.np_cnp_sent);
    if QueryCongStatisticsIn::new(input).clear() {
        *counters = Congestion::default();
    }
    Ok(())
}

/// `cong_protocol`: the notification point of RoCE v2.
const NOTIFICATION_POINT: u8 = 2;

/// QUERY_CONG_PARAMS. Whoever reacts has none, since no rate is limited.
pub fn query_cong_params(input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let mut out = QueryCongParamsOut::new(output);
    if QueryCongParamsIn::new(input).cong_protocol() == NOTIFICATION_POINT {
        out.set_cnp_dscp(48);
    }
    Ok(())
}

fn put_traffic(mut out: TrafficCounter<&mut [u8]>, traffic: Traffic) {
    out.set_packets(traffic.packets).set_octets(traffic.octets);
}

/// QUERY_VPORT_COUNTER.
pub fn query_vport_counter(
    core: &mut Core,
    input: &[u8],
    output: &mut [u8],
) -> Result<(), CmdError> {
    let query = QueryVportCounterIn::new(input);
    if query.other_vport() {
        return Err(VPORT_OTHER);
    }
    let counters = &mut core.vport_counters;
    let mut out = QueryVportCounterOut::new(output);
    put_traffic(out.received_errors_mut(), counters.received_errors);
    put_traffic(out.transmit_errors_mut(), counters.transmit_errors);
    put_traffic(out.received_ib_unicast_mut(), counters.received_ib_unicast);
    put_traffic(
        out.transmitted_ib_unicast_mut(),
        counters.transmitted_ib_unicast,
    );
    put_traffic(
        out.received_ib_multicast_mut(),
        counters.received_ib_multicast,
    );
    put_traffic(
        out.transmitted_ib_multicast_mut(),
        counters.transmitted_ib_multicast,
    );
    put_traffic(
        out.received_eth_broadcast_mut(),
        counters.received_eth_broadcast,
    );
    put_traffic(
        out.transmitted_eth_broadcast_mut(),
        counters.transmitted_eth_broadcast,
    );
    put_traffic(
        out.received_eth_unicast_mut(),
        counters.received_eth_unicast,
    );
    put_traffic(
        out.transmitted_eth_unicast_mut(),
        counters.transmitted_eth_unicast,
    );
    put_traffic(
        out.received_eth_multicast_mut(),
        counters.received_eth_multicast,
    );
    put_traffic(
        out.transmitted_eth_multicast_mut(),
        counters.transmitted_eth_multicast,
    );
    put_traffic(out.local_loopback_mut(), counters.local_loopback);
    if query.clear() {
        *counters = VportCounters::default();
    }
    Ok(())
}

/// QUERY_VNIC_ENV: what can be told without further bookkeeping; the rest is zero.
pub fn query_vnic_env(core: &Core, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    if QueryVnicEnvIn::new(input).other_vport() {
        return Err(ENV_OTHER);
    }
    let overrun = core
        .cqs
        .table
        .iter()
        .filter(|(_, cq)| cq.status() != 0)
        .count();
    let mut out = QueryVnicEnvOut::new(output);
    let mut env = out.vport_env_mut();
    env.set_invalid_command(core.hca.refused_commands);
    env.set_cq_overrun(overrun as u32);
    env.set_async_eq_overrun(u32::from(core.eqs.overrun));
    let discards = &core.eth.discards;
    env.set_nic_receive_steering_discard(discards.nic_receive_steering_discard)
        .set_receive_discard_vport_down(discards.receive_discard_vport_down)
        .set_transmit_discard_vport_down(discards.transmit_discard_vport_down);
    Ok(())
}
