//! Numbers handed out for the asking: UARs, protection domains, transport domains, XRC domains, queue counters.

use crate::layout::layout;

layout! {
    /// Output of ALLOC_UAR.
    pub output AllocUarOut[0x10] {
        0x08[23:0] uar;
    }

    /// Input of DEALLOC_UAR.
    pub input DeallocUarIn[0x10] {
        0x08[23:0] uar;
    }

    /// Output of ALLOC_PD.
    pub output AllocPdOut[0x10] {
        0x08[23:0] pd;
    }

    /// Input of DEALLOC_PD.
    pub input DeallocPdIn[0x10] {
        0x08[23:0] pd;
    }

    /// Output of ALLOC_TRANSPORT_DOMAIN.
    pub output AllocTransportDomainOut[0x10] {
        0x08[23:0] transport_domain;
    }

    /// Input of DEALLOC_TRANSPORT_DOMAIN.
    pub input DeallocTransportDomainIn[0x10] {
        0x08[23:0] transport_domain;
    }

    /// Output of ALLOC_XRCD.
    pub output AllocXrcdOut[0x10] {
        0x08[23:0] xrcd;
    }

    /// Input of DEALLOC_XRCD.
    pub input DeallocXrcdIn[0x10] {
        0x08[23:0] xrcd;
    }

    /// Output of ALLOC_Q_COUNTER.
    pub output AllocQCounterOut[0x10] {
        0x08[7:0] counter_set_id;
    }

    /// Input of DEALLOC_Q_COUNTER.
    pub input DeallocQCounterIn[0x10] {
        0x08[7:0] counter_set_id;
    }

    /// Input of QUERY_Q_COUNTER.
    pub input QueryQCounterIn[0x20] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x18[31] clear;
        0x18[30] aggregate;
        0x1c[7:0] counter_set_id;
    }

    /// Input of QUERY_CONG_STATISTICS.
    pub input QueryCongStatisticsIn[0x10] {
        0x08[31] clear;
    }

    /// Output of QUERY_CONG_STATISTICS.
    pub output QueryCongStatisticsOut[0x110] {
        0x10 rp_cur_flows;
        0x14 sum_flows;
        0x18 rp_cnp_ignored: u64;
        0x20 rp_cnp_handled: u64;
        0x48 time_stamp: u64;
        0x50 accumulators_period;
        0x54 np_ecn_marked_roce_packets: u64;
        0x5c np_cnp_sent: u64;
    }

    /// Input of QUERY_CONG_PARAMS.
    pub input QueryCongParamsIn[0x10] {
        0x0c[3:0] cong_protocol;
    }

    /// Output of QUERY_CONG_PARAMS for the notification point of RoCE v2
    /// (`cong_control_r_roce_ecn_np`); that of others is as long.
    pub output QueryCongParamsOut[0x110] {
        0x28[13:8] cnp_dscp;
        0x28[2:0] cnp_802p_prio;
    }

    /// Output of QUERY_Q_COUNTER.
    pub output QueryQCounterOut[0x100] {
        0x10 rx_write_requests;
        0x18 rx_read_requests;
        0x20 rx_atomic_requests;
        0x28 rx_dct_connect;
        0x30 out_of_buffer;
        0x38 out_of_sequence;
        0x40 duplicate_request;
        0x48 rnr_nak_retry_err;
        0x50 packet_seq_err;
        0x58 implied_nak_seq_err;
        0x60 local_ack_timeout_err;
        0x70 req_rnr_retries_exceeded;
        0x78 resp_local_length_error;
        0x7c req_local_length_error;
        0x80 resp_local_qp_error;
        0x84 local_operation_error;
        0x88 resp_local_protection;
        0x8c req_local_protection;
        0x90 resp_cqe_error;
        0x94 req_cqe_error;
        0x98 req_mw_binding;
        0x9c req_bad_response;
        0xa0 req_remote_invalid_request;
        0xa4 resp_remote_invalid_request;
        0xa8 req_remote_access_errors;
        0xac resp_remote_access_errors;
        0xb0 req_remote_operation_errors;
        0xb4 req_transport_retries_exceeded;
        0xb8 cq_overflow;
        0xbc resp_cqe_flush_error;
        0xc0 req_cqe_flush_error;
        0xc8 roce_adp_retrans;
        0xcc roce_adp_retrans_to;
        0xd0 roce_slow_restart;
        0xd4 roce_slow_restart_cnps;
        0xd8 roce_slow_restart_trans;
    }
}
