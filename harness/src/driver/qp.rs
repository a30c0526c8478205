//! Queue pairs: creation, the transitions to RTS, error and reset, destruction.

use rocinante_device::mlx5::cqe::Cqe;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::qp::{CreateQpIn, CreateQpOut, ModifyQpIn, Qpc, QueryQpOut};
use rocinante_wire::MacAddr;

use super::Driver;
use super::command::input;
use super::cq::NO_USER_INDEX;
use super::error::Result;
use super::function::Function;
use super::memory::Buffer;
use super::receive::ReceiveRing;
use super::send::SendRing;

/// Transport service, as `qpc.st`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the standard's
pub enum Service {
    Rc = 0,
    Uc = 1,
    Ud = 2,
    Xrc = 3,
    Gsi = 8,
    RegUmr = 0xc,
}

impl Service {
    fn is_datagram(self) -> bool {
        matches!(self, Service::Ud | Service::Gsi)
    }
}

/// Path MTU, as in the QP context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the names say it
pub enum Mtu {
    M256 = 1,
    M512 = 2,
    M1024 = 3,
    M2048 = 4,
    M4096 = 5,
}

impl Mtu {
    /// All of them.
    pub const ALL: [Mtu; 5] = [Mtu::M256, Mtu::M512, Mtu::M1024, Mtu::M2048, Mtu::M4096];

    /// Bytes of payload.
    pub fn bytes(self) -> u32 {
        128 << self as u8
    }
}

/// What a queue pair is to be.
#[derive(Clone, Copy, Debug)]
pub struct QpConfig {
    /// Service.
    pub service: Service,
    /// Protection domain.
    pub pd: u32,
    /// CQ of sends.
    pub send_cq: u32,
    /// CQ of receives.
    pub receive_cq: u32,
    /// log2 of the send queue's basic blocks of 64 bytes; `None` is no send queue.
    pub log_send: Option<u8>,
    /// log2 of the receive queue's WQEs; `None` is no receive queue.
    pub log_receive: Option<u8>,
    /// Scatter entries of a receive WQE, a power of two.
    pub receive_sges: u8,
    /// SRQ that receives come from.
    pub srqn: Option<u32>,
    /// XRC domain, 0 for none.
    pub xrcd: u32,
    /// Q counter set, 0 for none.
    pub counters: u8,
    /// Q_Key of a datagram QP.
    pub qkey: u32,
    /// Reserved lkey may be used.
    pub reserved_lkey: bool,
    /// Do not receive own multicast.
    pub block_own_multicast: bool,
}

impl QpConfig {
    /// An ordinary QP: 256 basic blocks, 256 receives of up to four entries.
    pub fn new(service: Service, pd: u32, cqn: u32) -> QpConfig {
        QpConfig {
            service,
            pd,
            send_cq: cqn,
            receive_cq: cqn,
            log_send: Some(8),
            log_receive: Some(8),
            receive_sges: 4,
            srqn: None,
            xrcd: 0,
            counters: 0,
            qkey: 0,
            reserved_lkey: false,
            block_own_multicast: false,
        }
    }
}

/// Everything about a connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Peer's QP.
    pub remote_qpn: u32,
    /// Peer's GID; IPv4 in the last four bytes.
    pub remote_gid: [u8; 16],
    /// Next hop.
    pub remote_mac: MacAddr,
    /// Own entry in the RoCE address table.
    pub sgid_index: u8,
    /// First PSN sent.
    pub send_psn: u32,
    /// First PSN expected.
    pub receive_psn: u32,
    /// Path MTU.
    pub mtu: Mtu,
    /// Local ACK timeout, 4.096 µs · 2^n.
    pub timeout: u8,
    /// Transport retries.
    pub retry_count: u8,
    /// RNR retries, 7 for ever.
    pub rnr_retry: u8,
    /// RNR timer code that this side sends.
    pub min_rnr_timer: u8,
    /// log2 of READs and ATOMICs outstanding, as initiator and as responder.
    pub log_rd_atomic: u8,
    /// Incoming READ, WRITE, ATOMIC.
    pub remote: [bool; 3],
    /// log2 of the longest message.
    pub log_msg_max: u8,
    /// Traffic class.
    pub tclass: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// UDP source port, 0 for the device's choice.
    pub udp_sport: u16,
    /// PCP of tagged frames.
    pub priority: u8,
}

impl Connection {
    /// To a peer, with the defaults of most programs.
    pub fn new(remote_qpn: u32, remote_gid: [u8; 16], remote_mac: MacAddr) -> Connection {
        Connection {
            remote_qpn,
            remote_gid,
            remote_mac,
            sgid_index: 0,
            send_psn: 0,
            receive_psn: 0,
            mtu: Mtu::M1024,
            timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
            min_rnr_timer: 12,
            log_rd_atomic: 4,
            remote: [true; 3],
            log_msg_max: 30,
            tclass: 0,
            hop_limit: 64,
            udp_sport: 0,
            priority: 0,
        }
    }
}

/// Bits of `opt_param_mask`.
const OPT_RRE: u32 = 1 << 1;
const OPT_RAE: u32 = 1 << 2;
const OPT_RWE: u32 = 1 << 3;

/// Path migrated, as drivers say.
const PM_MIGRATED: u8 = 3;

/// `rq_type`.
const RQ_OWN: u8 = 0;
const RQ_SRQ: u8 = 1;
const RQ_NONE: u8 = 3;

/// A queue pair.
pub(super) struct Qp {
    pub config: QpConfig,
    pub buffer: Buffer,
    pub record: u64,
    pub send: SendRing,
    pub receive: ReceiveRing,
}

impl Qp {
    /// The SRQ that a receive completion is about, if receives come from one.
    pub fn receives_from(&self, cqe: &Cqe) -> Option<u32> {
        match self.config.service {
            Service::Xrc => Some(cqe.srqn_uidx.get() & 0xff_ffff),
            _ => self.config.srqn,
        }
    }
}

impl<F: Function> Driver<F> {
    /// CREATE_QP.
    pub fn create_qp(&mut self, config: &QpConfig) -> Result<u32> {
        let log_stride = 4 + config.receive_sges.max(1).ilog2() as u8;
        let mut receive = match config.log_receive {
            Some(log_size) => ReceiveRing::new(log_size, log_stride),
            None => ReceiveRing::default(),
        };
        let mut send = SendRing::new(config.log_send);
        let buffer = self.pages.zeroed(receive.size() + send.size())?;
        receive.base = buffer.iova;
        send.base = buffer.iova + receive.size();
        let record = self.pages.record()?;
        let pas: Vec<u64> = buffer.pages().collect();
        let mut create = input(Opcode::CreateQp, 0, CreateQpIn::SIZE + 8 * pas.len());
        let mut view = CreateQpIn::new(&mut create);
        let mut qpc = view.qpc_mut();
        let rq_type = match (config.log_receive, config.srqn) {
            (_, Some(_)) => RQ_SRQ,
            (Some(_), None) => RQ_OWN,
            (None, None) => RQ_NONE,
        };
        qpc.set_st(config.service as u8)
            .set_pm_state(PM_MIGRATED)
            .set_pd(config.pd)
            .set_uar_page(self.uar)
            .set_user_index(NO_USER_INDEX)
            .set_cqn_snd(config.send_cq)
            .set_cqn_rcv(config.receive_cq)
            .set_dbr_addr(record)
            .set_rq_type(rq_type)
            .set_srqn_rmpn_xrqn(config.srqn.unwrap_or(0))
            .set_xrcd(config.xrcd)
            .set_rlky(config.reserved_lkey)
            .set_block_lb_mc(config.block_own_multicast);
        match config.log_send {
            Some(log_size) => qpc.set_log_sq_size(log_size),
            None => qpc.set_no_sq(true),
        };
        if let Some(log_size) = config.log_receive {
            qpc.set_log_rq_size(log_size)
                .set_log_rq_stride(log_stride - 4);
        }
        for (index, page) in pas.into_iter().enumerate() {
            view.pas_mut().set(index, page);
        }
        let qpn = CreateQpOut::new(&self.execute(&create, 16)?).qpn();
        let qp = Qp {
            config: *config,
            buffer,
            record,
            send,
            receive,
        };
        self.qps.insert(qpn, qp);
        Ok(qpn)
    }

    fn modify(
        &mut self,
        opcode: Opcode,
        qpn: u32,
        mask: u32,
        fill: impl FnOnce(&mut Qpc<&mut [u8]>),
    ) -> Result<()> {
        let mut modify = input(opcode, 0, ModifyQpIn::SIZE);
        let mut view = ModifyQpIn::new(&mut modify);
        view.set_qpn(qpn).set_opt_param_mask(mask);
        fill(&mut view.qpc_mut());
        self.execute(&modify, 16).map(drop)
    }

    /// RST2INIT_QP.
    pub fn to_init(&mut self, qpn: u32) -> Result<()> {
        let qp = self.qps.get(qpn)?;
        let config = qp.config;
        let record = config.log_receive.map_or(0, |_| qp.record);
        self.modify(Opcode::Rst2initQp, qpn, 0, |qpc| {
            qpc.set_st(config.service as u8)
                .set_pm_state(PM_MIGRATED)
                .set_pd(config.pd)
                .set_cqn_snd(config.send_cq)
                .set_cqn_rcv(config.receive_cq)
                .set_dbr_addr(record)
                .set_q_key(config.qkey)
                .set_counter_set_id(config.counters)
                .set_rlky(config.reserved_lkey);
            qpc.primary_address_path_mut().set_vhca_port_num(1);
        })
    }

    /// INIT2RTR_QP.
    pub fn to_rtr(&mut self, qpn: u32, to: &Connection) -> Result<()> {
        let datagram = self.qps.get(qpn)?.config.service.is_datagram();
        let mask = if datagram {
            0
        } else {
            OPT_RRE | OPT_RWE | OPT_RAE
        };
        self.modify(Opcode::Init2rtrQp, qpn, mask, |qpc| {
            qpc.set_mtu(to.mtu as u8).set_log_msg_max(to.log_msg_max);
            if datagram {
                return;
            }
            let [read, write, atomic] = to.remote;
            qpc.set_remote_qpn(to.remote_qpn)
                .set_next_rcv_psn(to.receive_psn)
                .set_log_rra_max(to.log_rd_atomic)
                .set_min_rnr_nak(to.min_rnr_timer)
                .set_rre(read)
                .set_rwe(write)
                .set_rae(atomic)
                .set_atomic_mode(1);
            let mut path = qpc.primary_address_path_mut();
            path.set_grh(true)
                .set_src_addr_index(to.sgid_index)
                .set_hop_limit(to.hop_limit)
                .set_tclass(to.tclass)
                .set_dscp(to.tclass >> 2)
                .set_udp_sport(to.udp_sport)
                .set_eth_prio(to.priority)
                .set_rgid_rip(&to.remote_gid)
                .set_rmac(&to.remote_mac.octets());
        })
    }

    /// RTR2RTS_QP.
    pub fn to_rts(&mut self, qpn: u32, to: &Connection) -> Result<()> {
        self.modify(Opcode::Rtr2rtsQp, qpn, 0, |qpc| {
            qpc.set_next_send_psn(to.send_psn)
                .set_retry_count(to.retry_count)
                .set_rnr_retry(to.rnr_retry)
                .set_log_sra_max(to.log_rd_atomic)
                .set_log_ack_req_freq(8);
            qpc.primary_address_path_mut().set_ack_timeout(to.timeout);
        })
    }

    /// From RESET to RTS.
    pub fn connect(&mut self, qpn: u32, to: &Connection) -> Result<()> {
        self.to_init(qpn)?;
        self.to_rtr(qpn, to)?;
        self.to_rts(qpn, to)
    }

    /// From RESET to RTS, for a QP without peer.
    pub fn activate(&mut self, qpn: u32, mtu: Mtu) -> Result<()> {
        let mut nobody = Connection::new(0, [0; 16], MacAddr::zero());
        nobody.mtu = mtu;
        self.connect(qpn, &nobody)
    }

    /// 2ERR_QP.
    pub fn to_error(&mut self, qpn: u32) -> Result<()> {
        self.about(Opcode::Qp2Err, qpn).map(drop)
    }

    /// SQERR2RTS_QP.
    pub fn recover(&mut self, qpn: u32) -> Result<()> {
        self.modify(Opcode::Sqerr2rtsQp, qpn, 0, |_| {})
    }

    /// 2RST_QP; both queues are empty afterwards.
    pub fn to_reset(&mut self, qpn: u32) -> Result<()> {
        self.about(Opcode::Qp2Rst, qpn)?;
        let record = {
            let qp = self.qps.get_mut(qpn)?;
            qp.send.reset();
            qp.receive.reset();
            qp.record
        };
        self.memory().zero(record, 8)?;
        Ok(())
    }

    /// QUERY_QP: the context.
    pub fn query_qp(&mut self, qpn: u32) -> Result<QueryQpOut<Vec<u8>>> {
        let mut query = input(Opcode::QueryQp, 0, 16);
        query[8..12].copy_from_slice(&qpn.to_be_bytes());
        Ok(QueryQpOut::new(self.execute(&query, QueryQpOut::SIZE)?))
    }

    /// DESTROY_QP.
    pub fn destroy_qp(&mut self, qpn: u32) -> Result<()> {
        self.about(Opcode::DestroyQp, qpn)?;
        let qp = self.qps.remove(qpn)?;
        self.pages.release(qp.buffer);
        self.pages.release_record(qp.record);
        Ok(())
    }
}
