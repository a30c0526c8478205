//! Queue pairs: what one is made of. Its send queue is worked in [`send`], incoming packets in
//! [`receive`], outgoing ones in [`transmit`], datagrams in [`datagram`], the end in [`error`].

pub mod congestion;
pub mod datagram;
pub mod error;
pub mod host;
pub mod path;
pub mod receive;
pub mod send;
pub mod transmit;
pub mod umr;

use std::collections::VecDeque;

use rocinante_firmware_cmd::mlx5::qp::Qpc;
use rocinante_wire::time::Time;
use rocinante_wire::transport::{Requester, Responder, UcRequester, UcResponder};

use self::path::Path;
use super::buffer::QueueBuffer;
use super::mkey::Accessor;
use super::notes::Failure;
use super::rq::{ReceiveQueue, Taken};
use super::wqe::{DataSeg, SendData};

/// Transport service, `qpc.st`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ServiceType {
    /// Reliable connection.
    Rc = 0,
    /// Unreliable connection.
    Uc = 1,
    /// Unreliable datagram.
    Ud = 2,
    /// Extended reliable connection, initiator or target.
    Xrc = 3,
    /// QP1, the general services interface.
    Gsi = 8,
    /// Executes UMR work requests only.
    RegUmr = 0xc,
}

impl ServiceType {
    /// From the context; `None` if the device does not offer it.
    pub fn from_bits(st: u8) -> Option<ServiceType> {
        Some(match st {
            0 => ServiceType::Rc,
            1 => ServiceType::Uc,
            2 => ServiceType::Ud,
            3 => ServiceType::Xrc,
            8 => ServiceType::Gsi,
            0xc => ServiceType::RegUmr,
            _ => return None,
        })
    }

    /// Datagram services: UD and GSI.
    pub fn is_datagram(self) -> bool {
        matches!(self, ServiceType::Ud | ServiceType::Gsi)
    }
}

/// QP state, `qpc.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the interface's
pub enum State {
    Reset = 0,
    Init = 1,
    Rtr = 2,
    Rts = 3,
    SqErr = 4,
    Err = 6,
}

impl State {
    /// Whether packets are accepted.
    pub fn receives(self) -> bool {
        matches!(self, State::Rtr | State::Rts | State::SqErr)
    }

    /// Whether packets of its own leave.
    pub fn sends(self) -> bool {
        matches!(self, State::Rts)
    }
}

/// What the data path reads of the context, in host form. The context stays the source: after
/// each command that changes it these are derived anew.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    /// QP number.
    pub qpn: u32,
    /// Service.
    pub service: ServiceType,
    /// Protection domain.
    pub pd: u32,
    /// CQ of the send queue.
    pub cqn_send: u32,
    /// CQ of the receive queue.
    pub cqn_receive: u32,
    /// For CQEs; 0xffffff is none.
    pub user_index: u32,
    /// SRQ number if receives come from one.
    pub srqn: Option<u32>,
    /// XRC domain.
    pub xrcd: u32,
    /// Reserved lkey may be used.
    pub reserved_lkey: bool,
    /// Q counter set, 0 for none.
    pub counters: u8,
    /// Q_Key of datagrams.
    pub qkey: u32,
    /// DETH source QP instead of the own number, 0 for none.
    pub deth_sqpn: u32,
    /// Payload bytes of a full packet.
    pub mtu: u32,
    /// Do not deliver own multicast to itself.
    pub block_lb_mc: bool,
}

impl Attr {
    /// From the context; `None` if the service type is not offered.
    pub fn derive(qpn: u32, context: &[u8]) -> Option<Attr> {
        let qpc = Qpc::new(context);
        Some(Attr {
            qpn,
            service: ServiceType::from_bits(qpc.st())?,
            pd: qpc.pd(),
            cqn_send: qpc.cqn_snd(),
            cqn_receive: qpc.cqn_rcv(),
            user_index: qpc.user_index(),
            // The SRQ field names a dummy where no SRQ is used: the type decides.
            srqn: (qpc.rq_type() == RQ_TYPE_SRQ).then(|| qpc.srqn_rmpn_xrqn()),
            xrcd: qpc.xrcd(),
            reserved_lkey: qpc.rlky(),
            counters: qpc.counter_set_id(),
            qkey: qpc.q_key(),
            deth_sqpn: qpc.deth_sqpn(),
            mtu: 128 << qpc.mtu().clamp(1, 5),
            block_lb_mc: qpc.block_lb_mc(),
        })
    }

    /// As whom this QP uses memory keys.
    pub fn accessor(&self) -> Accessor {
        Accessor {
            // The UMR QP reads lists of any PD and has none itself at first.
            pd: (self.service != ServiceType::RegUmr).then_some(self.pd),
            qpn: self.qpn,
            reserved_lkey: self.reserved_lkey,
        }
    }
}

/// `qpc.rq_type`: receives from an SRQ.
pub const RQ_TYPE_SRQ: u8 = 1;

/// The send queue's ring.
#[derive(Debug)]
pub struct SendRing {
    /// Basic blocks of 64 bytes.
    pub buffer: QueueBuffer,
    /// log2 of the number of basic blocks.
    pub log_size: u8,
    /// Next basic block to execute.
    pub consumer: u16,
    /// Basic blocks posted, from the doorbell record.
    pub producer: u16,
}

/// A send WQE that was taken from the ring and has not completed.
#[derive(Debug, Default)]
pub struct Inflight {
    /// Index of its first basic block: the CQE's `wqe_counter`.
    pub index: u16,
    /// WQE opcode.
    pub opcode: u8,
    /// A CQE is wanted on success.
    pub signaled: bool,
    /// The WQE is malformed: it fails in its turn.
    pub bad: bool,
    /// Its message.
    pub data: SendData,
}

/// Work requests in execution at a time, per QP. More wait in the ring.
pub const DEPTH: usize = 128;

/// The sending side.
#[derive(Debug, Default)]
pub struct SendSide {
    /// The ring, if the QP has a send queue.
    pub ring: Option<SendRing>,
    /// In posting order.
    pub inflight: VecDeque<Inflight>,
    /// Cookie of the first of `inflight`; cookies count up.
    pub first_cookie: u32,
    /// Used-up entries, kept for their memory.
    pub spare: Vec<Inflight>,
}

impl SendSide {
    /// An empty entry, with the memory of an old one if there is any.
    pub fn fresh(&mut self) -> Inflight {
        self.spare.pop().unwrap_or_default()
    }

    /// Appends an entry and names it.
    pub fn push(&mut self, entry: Inflight) -> u32 {
        let cookie = self.first_cookie.wrapping_add(self.inflight.len() as u32);
        self.inflight.push_back(entry);
        cookie
    }

    /// The entry of a cookie.
    pub fn entry(&self, cookie: u32) -> Option<&Inflight> {
        self.inflight
            .get(cookie.wrapping_sub(self.first_cookie) as usize)
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<Inflight> {
        let entry = self.inflight.pop_front()?;
        self.first_cookie = self.first_cookie.wrapping_add(1);
        Some(entry)
    }

    /// Gives an entry's memory back.
    pub fn recycle(&mut self, mut entry: Inflight) {
        entry.data.clear();
        self.spare.push(entry);
    }

    /// Forgets everything but the ring's place.
    pub fn reset(&mut self) {
        while let Some(entry) = self.pop() {
            self.recycle(entry);
        }
        if let Some(ring) = &mut self.ring {
            ring.consumer = 0;
            ring.producer = 0;
        }
    }
}

/// A receive WQE taken for the message in progress.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Which, and how long.
    pub taken: Taken,
    /// The SRQ it came from.
    pub srqn: Option<u32>,
    /// Whose keys its scatter list uses.
    pub who: Accessor,
    /// CQ it completes on.
    pub cqn: u32,
    /// For the CQE.
    pub user_index: u32,
}

/// The receiving side.
#[derive(Debug, Default)]
pub struct ReceiveSide {
    /// The QP's own queue, if it has one.
    pub queue: Option<ReceiveQueue>,
    /// The WQE of the message in progress.
    pub held: Option<Held>,
    /// Its scatter list.
    pub segs: Vec<DataSeg>,
}

/// The transport engine of a service.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // QPs are boxed, and RC is the common one
pub enum Engine {
    /// RC, XRC; the UMR QP uses the requester for local work only.
    Reliable {
        /// Sends requests.
        requester: Requester,
        /// Answers requests.
        responder: Responder,
    },
    /// UC.
    Unreliable {
        /// Sends messages.
        requester: UcRequester,
        /// Takes messages.
        responder: UcResponder,
    },
    /// UD, GSI: no state.
    Datagram,
}

/// A queue pair.
pub struct Qp {
    /// Derived from the context.
    pub attr: Attr,
    /// State.
    pub state: State,
    /// `qpc` as the driver's commands made it.
    pub context: [u8; 0xe8],
    /// Doorbell record: receive counter, send counter.
    pub doorbell_record: u64,
    /// Sending side.
    pub send: SendSide,
    /// Receiving side.
    pub receive: ReceiveSide,
    /// Transport.
    pub engine: Engine,
    /// Where packets go, once connected.
    pub path: Option<Path>,
    /// In the NIC's list of queue pairs with work to send.
    pub scheduled: bool,
    /// Why it is in an error state.
    pub failure: Option<Failure>,
    /// Deadline that the NIC's timers hold for it.
    pub timer: Option<Time>,
    /// When its peer was last told of congestion.
    pub notified: Option<Time>,
}
