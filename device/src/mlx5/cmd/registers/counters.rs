//! PPCNT: the counters of the port in the groups of the standards. Groups and counters that
//! nothing here can happen for are zero.

use rocinante_firmware_cmd::mlx5::registers::counters::{
    DiscardCounters, ExtendedCounters, IbExtendedPortCounters, IbPortCounters, Ieee8023Counters,
    PerPrioCounters, PhysLayerCounters, PhysLayerStatisticalCounters, Ppcnt, Rfc2819Counters,
    Rfc2863Counters, Rfc3635Counters,
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
    let fcs_errors = core.port.counters.fcs_errors;
    let discards = &core.eth.discards;
    let milliseconds = core.now.0.saturating_sub(core.port.counted_since.0) / 1_000_000;
    match group {
        0x00 => {
            let mut c = Ieee8023Counters::new(set);
            c.set_a_frames_transmitted_ok(tx.frames)
                .set_a_frames_received_ok(rx.frames);
            // Adapters count frame check sequences here too, whatever the standard says.
            c.set_a_octets_transmitted_ok(tx.octets_on_wire())
                .set_a_octets_received_ok(rx.octets_on_wire());
            c.set_a_multicast_frames_xmitted_ok(tx.multicast);
            c.set_a_broadcast_frames_xmitted_ok(tx.broadcast);
            c.set_a_multicast_frames_received_ok(rx.multicast);
            c.set_a_broadcast_frames_received_ok(rx.broadcast);
            c.set_a_frame_too_long_errors(oversize)
                .set_a_frame_check_sequence_errors(fcs_errors);
            c.set_a_mac_control_frames_transmitted(tx.control)
                .set_a_mac_control_frames_received(rx.control)
                .set_a_unsupported_opcodes_received(rx.unknown_control);
            c.set_a_pause_mac_ctrl_frames_received(rx.pause)
                .set_a_pause_mac_ctrl_frames_transmitted(tx.pause);
        }
        0x01 => {
            let mut c = Rfc2863Counters::new(set);
            c.set_if_in_octets(rx.octets_on_wire())
                .set_if_in_ucast_pkts(rx.unicast());
            c.set_if_in_multicast_pkts(rx.multicast)
                .set_if_in_broadcast_pkts(rx.broadcast);
            c.set_if_in_errors(oversize + fcs_errors);
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
            c.set_ether_stats_oversize_pkts(oversize)
                .set_ether_stats_crc_align_errors(fcs_errors);
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
            let mut c = Rfc3635Counters::new(set);
            c.set_dot3stats_frame_too_longs(oversize)
                .set_dot3stats_fcs_errors(fcs_errors)
                .set_dot3control_in_unknown_opcodes(rx.unknown_control);
            c.set_dot3in_pause_frames(rx.pause)
                .set_dot3out_pause_frames(tx.pause);
        }
        0x05 => {
            let mut c = ExtendedCounters::new(set);
            c.set_rx_icrc_encapsulated(core.icrc_errors);
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
        0x10 => {
            let at = usize::from(prio & 7);
            let (rx, tx) = (&rx.priorities[at], &tx.priorities[at]);
            let mut c = PerPrioCounters::new(set);
            c.set_rx_octets(rx.octets).set_rx_frames(rx.frames);
            c.set_tx_octets(tx.octets).set_tx_frames(tx.frames);
            c.set_rx_pause(rx.pause).set_tx_pause(tx.pause);
            c.set_rx_pause_duration(rx.pause_time.as_micros() as u64)
                .set_rx_pause_transition(rx.pause_transitions);
        }
        0x12 => {
            let mut c = PhysLayerCounters::new(set);
            c.set_time_since_last_clear(milliseconds);
            c.set_link_down_events(core.port.counters.link_down_events);
        }
        0x16 => {
            let mut c = PhysLayerStatisticalCounters::new(set);
            c.set_time_since_last_clear(milliseconds)
                .set_phy_received_bits(core.port.bits(core.now));
        }
        0x20 => {
            // Of 8 bits, which stop at their end.
            let downs = u8::try_from(core.port.counters.link_down_events).unwrap_or(u8::MAX);
            IbPortCounters::new(set).set_link_downed_counter(downs);
        }
        0x21 => {
            let vport = &core.vport_counters;
            let (tx, rx) = (vport.transmitted_ib_unicast, vport.received_ib_unicast);
            let (tx_group, rx_group) =
                (vport.transmitted_ib_multicast, vport.received_ib_multicast);
            let mut c = IbExtendedPortCounters::new(set);
            c.set_port_xmit_data(tx.octets.wrapping_add(tx_group.octets))
                .set_port_rcv_data(rx.octets.wrapping_add(rx_group.octets));
            c.set_port_xmit_pkts(tx.packets.wrapping_add(tx_group.packets))
                .set_port_rcv_pkts(rx.packets.wrapping_add(rx_group.packets));
            c.set_port_unicast_xmit_pkts(tx.packets)
                .set_port_multicast_xmit_pkts(tx_group.packets);
            c.set_port_unicast_rcv_pkts(rx.packets)
                .set_port_multicast_rcv_pkts(rx_group.packets);
        }
        _ => {}
    }
    Ok(())
}
