//! PPCNT: the counters of the port in the groups of the standards. Groups and counters that
//! nothing here can happen for are zero.

use rocinante_firmware_cmd::mlx5::registers::counters::{
    DiscardCounters, ExtendedCounters, Ieee8023Counters, PerPrioCounters, PhysLayerCounters, Ppcnt,
    Rfc2819Counters, Rfc2863Counters, Rfc3635Counters,
};

use super::{CmdError, check_port};
use crate::mlx5::core::Core;

/// Reads the group that `data` names.
pub(super) fn read(core: &Core, data: &mut [u8]) -> Result<(), CmdError> {
    let mut ppcnt = Ppcnt::new(data);
    check_port(ppcnt.local_port())?;
    let (group, prio) = (ppcnt.grp(), ppcnt.prio_tc());
    let set = ppcnt.counter_set_mut();
    set.fill(0);
    let rx = &core.port.counters.received;
    let tx = &core.port.counters.transmitted;
    let oversize = core.port.counters.oversize;
    let discards = &core.eth.discards;
    match group {
        0x00 => {
            let mut c = Ieee8023Counters::new(set);
            c.set_a_frames_transmitted_ok(tx.frames)
                .set_a_frames_received_ok(rx.frames);
            c.set_a_octets_transmitted_ok(tx.octets)
                .set_a_octets_received_ok(rx.octets);
            c.set_a_multicast_frames_xmitted_ok(tx.multicast);
            c.set_a_broadcast_frames_xmitted_ok(tx.broadcast);
            c.set_a_multicast_frames_received_ok(rx.multicast);
            c.set_a_broadcast_frames_received_ok(rx.broadcast);
            c.set_a_frame_too_long_errors(oversize);
        }
        0x01 => {
            let mut c = Rfc2863Counters::new(set);
            c.set_if_in_octets(rx.octets_on_wire())
                .set_if_in_ucast_pkts(rx.unicast());
            c.set_if_in_multicast_pkts(rx.multicast)
                .set_if_in_broadcast_pkts(rx.broadcast);
            c.set_if_in_errors(oversize);
            c.set_if_out_octets(tx.octets_on_wire())
                .set_if_out_ucast_pkts(tx.unicast());
            c.set_if_out_multicast_pkts(tx.multicast)
                .set_if_out_broadcast_pkts(tx.broadcast);
            c.set_if_out_discards(discards.transmit_discard_vport_down);
        }
        0x02 => {
            // Of what is received, as an Ethernet segment's statistics are.
            let mut c = Rfc2819Counters::new(set);
            c.set_ether_stats_octets(rx.octets_on_wire())
                .set_ether_stats_pkts(rx.frames);
            c.set_ether_stats_broadcast_pkts(rx.broadcast);
            c.set_ether_stats_multicast_pkts(rx.multicast);
            c.set_ether_stats_oversize_pkts(oversize);
            let [
                s64,
                s127,
                s255,
                s511,
                s1023,
                s1518,
                s2047,
                s4095,
                s8191,
                s10239,
            ] = rx.sizes;
            c.set_ether_stats_pkts64octets(s64)
                .set_ether_stats_pkts65to127octets(s127);
            c.set_ether_stats_pkts128to255octets(s255)
                .set_ether_stats_pkts256to511octets(s511);
            c.set_ether_stats_pkts512to1023octets(s1023)
                .set_ether_stats_pkts1024to1518octets(s1518);
            c.set_ether_stats_pkts1519to2047octets(s2047)
                .set_ether_stats_pkts2048to4095octets(s4095);
            c.set_ether_stats_pkts4096to8191octets(s8191);
            c.set_ether_stats_pkts8192to10239octets(s10239);
        }
        0x03 => {
            Rfc3635Counters::new(set).set_dot3stats_frame_too_longs(oversize);
        }
        0x05 => {
            let mut c = ExtendedCounters::new(set);
            let [
                s64,
                s127,
                s255,
                s511,
                s1023,
                s1518,
                s2047,
                s4095,
                s8191,
                s10239,
            ] = tx.sizes;
            c.set_tx_stats_pkts64octets(s64)
                .set_tx_stats_pkts65to127octets(s127);
            c.set_tx_stats_pkts128to255octets(s255)
                .set_tx_stats_pkts256to511octets(s511);
            c.set_tx_stats_pkts512to1023octets(s1023)
                .set_tx_stats_pkts1024to1518octets(s1518);
            c.set_tx_stats_pkts1519to2047octets(s2047)
                .set_tx_stats_pkts2048to4095octets(s4095);
            c.set_tx_stats_pkts4096to8191octets(s8191)
                .set_tx_stats_pkts8192to10239octets(s10239);
        }
        0x06 => {
            let mut c = DiscardCounters::new(set);
            c.set_ingress_general(discards.receive_discard_vport_down);
            c.set_egress_general(discards.transmit_discard_vport_down);
        }
        // One queue for all: its traffic is that of priority 0.
        0x10 if prio == 0 => {
            let mut c = PerPrioCounters::new(set);
            c.set_rx_octets(rx.octets_on_wire())
                .set_rx_frames(rx.frames);
            c.set_tx_octets(tx.octets_on_wire())
                .set_tx_frames(tx.frames);
        }
        0x12 => {
            let mut c = PhysLayerCounters::new(set);
            c.set_time_since_last_clear(core.now.0 / 1_000_000);
            c.set_link_down_events(core.port.counters.link_down_events);
        }
        _ => {}
    }
    Ok(())
}
