//! The state of one NIC apart from its queue pairs, which are kept beside it so that a queue
//! pair can be worked on while the rest is at hand.

use std::collections::VecDeque;
use std::sync::Arc;

use rocinante_dma::{Gather, MemoryMap};
use rocinante_wire::MacAddr;
use rocinante_wire::buf::BufPool;
use rocinante_wire::frame::{Frame, Payload};
use rocinante_wire::roce::{Address, L3 as WireL3, RoceFrame, Tci};
use rocinante_wire::time::Time;

use super::counters::{QCounters, VportCounters};
use super::cq::{CqOverrun, Cqs};
use super::cqe::Cqe;
use super::eq::{Eqe, Eqs};
use super::eth::Eth;
use super::hca::Hca;
use super::mkey::Mkeys;
use super::notes::Notes;
use super::outbox::Outbox;
use super::port::Port;
use super::qp::congestion::Congestion;
use super::roce::Roce;
use super::srq::Srq;
use super::table::{Numbers, Table};
use super::timer::Timers;
use super::vport::Vport;

/// What a user decides about a NIC before it exists.
#[derive(Clone, Debug)]
pub struct NicConfig {
    /// Burned-in MAC address.
    pub mac: MacAddr,
    /// Name in log lines.
    pub name: String,
    /// MSI-X vectors of the PCI function.
    pub vectors: u16,
    /// Whether it manages its port.
    pub manager: PortManager,
}

/// Whether the function manages its port (`vport_group_manager`): pause frames, traffic classes, and a
/// switch without virtual functions.
///
/// FreeBSD looks for the SR-IOV capability of a function that does, which QEMU hides from guests, and
/// complains. Linux lets nobody set pause frames at one that does not, and says who it is before it reads
/// the capabilities that it goes by (SET_DRIVER_VERSION; `mlx5_function_open`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortManager {
    /// For a driver that says it is Linux'.
    #[default]
    ForLinux,
    /// For all drivers.
    Always,
    /// For none.
    Never,
}

/// Payload of a frame that is still in the sender's guest memory.
#[derive(Clone, Debug)]
pub struct GuestPayload(pub Gather);

impl Payload for GuestPayload {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        self.0.copy_to(offset, out)
    }
}

/// A frame as NICs exchange it.
pub type NicFrame = Frame<GuestPayload>;

/// Protection domains, UARs and other objects that are little more than a number, each with the
/// space its numbers come from.
pub struct Resources {
    /// UAR pages by index.
    pub uars: Table<()>,
    /// Indices below 16 are the initialization segment and the MSI-X table.
    pub uar_numbers: Numbers,
    /// Protection domains.
    pub pds: Table<()>,
    /// Numbers of protection domains.
    pub pd_numbers: Numbers,
    /// Transport domains.
    pub transport_domains: Table<()>,
    /// Numbers of transport domains.
    pub transport_domain_numbers: Numbers,
    /// XRC domains.
    pub xrcds: Table<()>,
    /// Numbers of XRC domains.
    pub xrcd_numbers: Numbers,
}

/// Number spaces of the larger objects.
pub struct ObjectNumbers {
    /// Event queues, 8 bits.
    pub eq: Numbers,
    /// Completion queues.
    pub cq: Numbers,
    /// Memory key indices.
    pub mkey: Numbers,
    /// QPs, SQs and RQs: drivers route their events by number alone.
    pub queue: Numbers,
    /// SRQs, XRC SRQs and RMPs, likewise.
    pub srq: Numbers,
    /// Q counter sets, 8 bits; 0 means none.
    pub q_counter: Numbers,
}

/// Frames on their way out.
#[derive(Default)]
pub struct Output {
    /// To the wire.
    pub wire: Outbox,
    /// To this NIC itself: destination is its own address.
    pub loopback: VecDeque<NicFrame>,
    /// There is a pause, or something that has waited for its end.
    pub paused: bool,
    /// What waits for the end of a pause, with its priority.
    pub held: VecDeque<(u8, NicFrame)>,
}

impl Output {
    /// A frame to be made in place. To be [sent](Core::send_begun) or [dropped](Self::drop_begun).
    #[inline]
    pub fn begin(&mut self) -> &mut NicFrame {
        self.wire.begin()
    }

    /// Takes back the frame that was begun last.
    pub fn drop_begun(&mut self) {
        self.wire.pop_back();
    }
}

/// All state but the queue pairs.
pub struct Core {
    /// As created.
    pub config: NicConfig,
    /// Guest memory as of the last change.
    pub mem: Arc<MemoryMap>,
    /// PCI bus mastering: without it nothing is read or written.
    pub bus_master: bool,
    /// Time of the input being handled.
    pub now: Time,
    /// HCA state, capabilities and page accounting.
    pub hca: Hca,
    /// PDs, UARs and the like.
    pub resources: Resources,
    /// Number spaces.
    pub numbers: ObjectNumbers,
    /// Q counter sets by id.
    pub q_counters: Table<QCounters>,
    /// Event queues and interrupts.
    pub eqs: Eqs,
    /// Completion queues.
    pub cqs: Cqs,
    /// Deadlines.
    pub timers: Timers,
    /// Memory keys.
    pub mkeys: Mkeys,
    /// SRQs, XRC SRQs, RMPs.
    pub srqs: Table<Srq>,
    /// RoCE address table and multicast groups.
    pub roce: Roce,
    /// NIC vport context.
    pub vport: Vport,
    /// Vport counters.
    pub vport_counters: VportCounters,
    /// Port: link state and registers.
    pub port: Port,
    /// Ethernet objects and steering.
    pub eth: Eth,
    /// RoCE packets dropped for their ICRC (`rx_icrc_encapsulated`).
    pub icrc_errors: u64,
    /// Counters of congestion.
    pub congestion: Congestion,
    /// Frames to send.
    pub out: Output,
    /// Buffers of frames that are bytes.
    pub buffers: BufPool,
    /// What the NIC's user may want to hear of.
    pub notes: Notes,
}

impl Core {
    /// A NIC at power-on.
    pub fn new(config: NicConfig) -> Core {
        Core {
            mem: MemoryMap::empty(),
            bus_master: false,
            now: Time::ZERO,
            hca: Hca::new(config.manager == PortManager::Always),
            resources: Resources {
                uars: Table::default(),
                uar_numbers: Numbers::new(16, 8192),
                pds: Table::default(),
                pd_numbers: Numbers::new(1, 1 << 16),
                transport_domains: Table::default(),
                transport_domain_numbers: Numbers::new(1, 1 << 12),
                xrcds: Table::default(),
                xrcd_numbers: Numbers::new(1, 1 << 12),
            },
            numbers: ObjectNumbers {
                eq: Numbers::new(1, 128),
                cq: Numbers::new(0x80, 1 << 16),
                mkey: Numbers::new(0x100, 1 << 20),
                queue: Numbers::new(0x40, 1 << 18),
                srq: Numbers::new(0x40, 1 << 16),
                q_counter: Numbers::new(1, 256),
            },
            q_counters: Table::default(),
            eqs: Eqs::default(),
            cqs: Cqs::default(),
            timers: Timers::default(),
            mkeys: Mkeys::default(),
            srqs: Table::default(),
            roce: Roce::new(),
            vport: Vport::new(config.mac),
            vport_counters: VportCounters::default(),
            port: Port::new(),
            eth: Eth::new(),
            icrc_errors: 0,
            congestion: Congestion::default(),
            out: Output::default(),
            buffers: BufPool::for_frames(FRAME_BUFFERS),
            notes: Notes::default(),
            config,
        }
    }

    /// Writes a completion and reports it if its CQ is armed for it.
    #[inline]
    pub fn complete(&mut self, cqn: u32, cqe: Cqe) -> Result<(), CqOverrun> {
        self.cqs.push(
            &self.mem,
            &mut self.eqs,
            &mut self.timers,
            self.now,
            cqn,
            cqe,
        )
    }

    /// Sends a RoCE frame: to this NIC itself if it is its own destination, else to the wire if the
    /// link is up.
    pub fn send(&mut self, frame: NicFrame) {
        self.out.wire.push_back(frame);
        self.send_begun();
    }

    /// Sends the frame that was [begun](Output::begin) last.
    pub fn send_begun(&mut self) {
        let Some((mac, len)) = self
            .out
            .wire
            .back()
            .and_then(|frame| Some((frame.dst_mac()?, frame.len_on_wire())))
        else {
            self.out.drop_begun();
            return;
        };
        if self.is_own_mac(mac) {
            self.vport_counters.transmitted_ib(mac).count(len);
            self.out.loopback.extend(self.out.wire.pop_back());
        } else if self.port.link_up() {
            self.count_roce_transmit(mac, len);
        } else {
            self.out.drop_begun();
        }
    }

    /// Posts an asynchronous event to whichever EQ subscribed to it.
    pub fn event(&mut self, eqe: Eqe) {
        self.eqs.post_async(&self.mem, eqe);
    }

    /// Counts on a Q counter set; set 0 is none.
    #[inline]
    pub fn count(&mut self, set: u8, count: impl FnOnce(&mut QCounters)) {
        if let Some(counters) = self.q_counters.get_mut(u32::from(set)) {
            count(counters);
        }
    }
}

impl Core {
    /// Whether this NIC receives frames to `mac` as its own.
    pub fn is_own_mac(&self, mac: MacAddr) -> bool {
        self.vport.permanent == mac || self.roce.owns_mac(mac)
    }

    /// Whether a RoCE packet is for this NIC: its MAC and GID are in the address table, or are
    /// multicast. Another packet to the RoCE port is plain UDP.
    pub fn is_for_roce(&self, roce: &RoceFrame) -> bool {
        let mac = roce.address.dst_mac;
        let gid = roce.address.l3.dst_gid();
        if mac.is_multicast() {
            return gid.is_multicast();
        }
        self.is_own_mac(mac) && self.roce.owns(&gid.0)
    }

    fn count_roce_transmit(&mut self, mac: MacAddr, len: usize) {
        self.vport_counters.transmitted_ib(mac).count(len);
        let frame = self.out.wire.back();
        let priority = frame.map_or(0, |frame| sent_priority(frame.head()));
        let counters = &mut self.port.counters.transmitted;
        counters.count_of_priority(&mac.octets(), len, priority);
    }

    /// Counts a RoCE frame of `len` bytes that arrived with those addresses.
    pub fn count_roce_receive(&mut self, address: &Address, len: usize) {
        let mac = address.dst_mac;
        self.vport_counters.received_ib(mac).count(len);
        let dscp = match address.l3 {
            // A GRH has no DSCP.
            WireL3::V1 { .. } => None,
            ref l3 => Some(l3.tclass() >> 2),
        };
        let qos = &self.port.qos;
        let priority = qos.priority(address.vlan.map(Tci::pcp), || dscp);
        let counters = &mut self.port.counters.received;
        counters.count_of_priority(&mac.octets(), len, priority);
    }
}

/// The priority of a RoCE frame that leaves: that of its tag.
fn sent_priority(head: &[u8]) -> u8 {
    match head.get(12..15) {
        Some(&[0x81, 0x00, tci]) => tci >> 5,
        _ => 0,
    }
}

/// Buffers kept for frames that are bytes (Ethernet, datagrams).
const FRAME_BUFFERS: usize = 1024;
