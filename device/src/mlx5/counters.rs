//! Counters that commands report: Q counter sets and vport counters.
//! Source: `query_q_counter_out`, `query_vport_counter_out` of Linux `mlx5_ifc.h`.

use rocinante_wire::MacAddr;
use serde::Serialize;

macro_rules! q_counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One Q counter set, each field named as in the layout of QUERY_Q_COUNTER.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[allow(missing_docs)] // the names are the interface's
        pub struct QCounters {
            $($(#[$doc])* pub $name: u32,)*
        }

        impl QCounters {
            /// Counts all that `other` has counted.
            pub fn add(&mut self, other: &QCounters) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }
        }
    };
}

q_counters! {
    rx_write_requests,
    rx_read_requests,
    rx_atomic_requests,
    rx_dct_connect,
    out_of_buffer,
    out_of_sequence,
    duplicate_request,
    rnr_nak_retry_err,
    packet_seq_err,
    implied_nak_seq_err,
    local_ack_timeout_err,
    req_rnr_retries_exceeded,
    resp_local_length_error,
    req_local_length_error,
    resp_local_qp_error,
    local_operation_error,
    resp_local_protection,
    req_local_protection,
    resp_cqe_error,
    req_cqe_error,
    req_mw_binding,
    req_bad_response,
    req_remote_invalid_request,
    resp_remote_invalid_request,
    req_remote_access_errors,
    resp_remote_access_errors,
    req_remote_operation_errors,
    req_transport_retries_exceeded,
    cq_overflow,
    resp_cqe_flush_error,
    req_cqe_flush_error,
    roce_adp_retrans,
    roce_adp_retrans_to,
    roce_slow_restart,
    roce_slow_restart_cnps,
    roce_slow_restart_trans,
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes, without the frame check sequence.
    pub octets: u64,
}

impl Traffic {
    /// Counts one packet.
    #[inline]
    pub fn count(&mut self, octets: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets as u64);
    }
}

/// Counters of the vport, named as in the layout of QUERY_VPORT_COUNTER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the names are the interface's
pub struct VportCounters {
    pub received_errors: Traffic,
    pub transmit_errors: Traffic,
    pub received_ib_unicast: Traffic,
    pub transmitted_ib_unicast: Traffic,
    pub received_ib_multicast: Traffic,
    pub transmitted_ib_multicast: Traffic,
    pub received_eth_broadcast: Traffic,
    pub transmitted_eth_broadcast: Traffic,
    pub received_eth_unicast: Traffic,
    pub transmitted_eth_unicast: Traffic,
    pub received_eth_multicast: Traffic,
    pub transmitted_eth_multicast: Traffic,
    pub local_loopback: Traffic,
}

impl VportCounters {
    /// Of RoCE frames sent to `mac`.
    pub fn transmitted_ib(&mut self, mac: MacAddr) -> &mut Traffic {
        if mac.is_multicast() {
            &mut self.transmitted_ib_multicast
        } else {
            &mut self.transmitted_ib_unicast
        }
    }

    /// Of RoCE frames received for `mac`.
    pub fn received_ib(&mut self, mac: MacAddr) -> &mut Traffic {
        if mac.is_multicast() {
            &mut self.received_ib_multicast
        } else {
            &mut self.received_ib_unicast
        }
    }
}
