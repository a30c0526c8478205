//! Large receive offload: TCP segments of one flow that follow each other become one packet.
//! Source: reference of the interface, "RX path"; Linux `mlx5e_lro_update_hdr`, FreeBSD the same,
//! which rewrite the first segment's headers from the completion's fields.
//!
//! A session ends with a segment that does not continue it (which is delivered after it), with PSH,
//! when it is full, or when its time is up. Until then its bytes are kept here.

use std::time::Duration;

use rocinante_wire::time::Time;

use super::checksum::Sum;
use super::headers::{Headers, L3, L4};
use super::packet::Packet;
use super::place::{Merged, Report, place};
use crate::mlx5::core::Core;
use crate::mlx5::timer::TimerKey;
use crate::mlx5::wqe::DataSeg;

/// Sessions of one NIC at a time. A session keeps up to 64 KiB.
const MAX_SESSIONS: usize = 64;

/// Sessions of one queue at a time.
const MAX_PER_QUEUE: usize = 16;

/// Longest packet: `byte_cnt` of a striding queue has 16 bits, as the length of an IP datagram.
const MAX_LEN: usize = 0xffff;

/// IPv4 and TCP headers without options; drivers look for the TCP header right behind it.
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;

/// Two NOPs and a time stamp option (RFC 7323, appendix A).
const TIMESTAMP: [u8; 4] = [1, 1, 8, 10];
const TIMESTAMP_LEN: usize = 12;

const ACK: u16 = 0x10;
const PSH: u16 = 0x08;

/// What a TIR asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// TCP over IPv4 is merged.
    pub ipv4: bool,
    /// TCP over IPv6 is merged.
    pub ipv6: bool,
    /// How long a session lasts (`lro_timeout_period_usecs`).
    pub timeout: Duration,
    /// Bytes of an IP payload: TCP header and data (`lro_max_ip_payload_size`).
    pub max_payload: usize,
}

impl Rules {
    /// From a TIR context's fields. `None`: nothing is merged.
    pub fn from_fields(mask: u8, timeout_us: u16, max_256: u8) -> Option<Rules> {
        (mask & 3 != 0).then(|| Rules {
            ipv4: mask & 1 != 0,
            ipv6: mask & 2 != 0,
            timeout: Duration::from_micros(u64::from(timeout_us)),
            max_payload: usize::from(max_256) << 8,
        })
    }
}

/// What segments of a session have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    rqn: u32,
    ipv6: bool,
    src: [u8; 16],
    dst: [u8; 16],
    ports: (u16, u16),
    tag: Option<u16>,
}

impl Flow {
    fn of(rqn: u32, headers: &Headers) -> Flow {
        Flow {
            rqn,
            ipv6: headers.l3 == L3::Ipv6,
            src: headers.src,
            dst: headers.dst,
            ports: (headers.sport, headers.dport),
            tag: headers.tag.map(|tag| tag.tci),
        }
    }
}

/// A segment that may be merged.
struct Segment<'a> {
    sequence: u32,
    ack: u32,
    window: u16,
    push: bool,
    ttl: u8,
    /// Ethernet addresses and traffic class: alike in all segments.
    link: [u8; 12],
    tclass: u8,
    options: &'a [u8],
    /// TCP header and data.
    ip_payload: usize,
    /// Data.
    len: usize,
    sum: Sum,
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'a> Segment<'a> {
    /// `None` for what is delivered as it came: damaged, empty, with flags or options of its own.
    fn of(packet: &Packet<'a>, report: &Report) -> Option<Segment<'a>> {
        let headers = &packet.headers;
        let ip_len = match headers.l3 {
            L3::Ipv4 => IPV4_LEN,
            L3::Ipv6 => IPV6_LEN,
            L3::Other => return None,
        };
        let good = report.good & 7 == 7;
        let plain = headers.l4_offset == headers.l3_offset + ip_len
            // A tag that stays in the frame is one that drivers do not expect there.
            && headers.tag.is_some() == report.tag.is_some();
        if !good || !plain || headers.tcp_flags & !PSH != ACK {
            return None;
        }
        let head = packet.head();
        let l4 = headers.l4_offset;
        let options = head.get(l4 + TCP_LEN..headers.l4_payload)?;
        let stamped = options.len() == TIMESTAMP_LEN && options.starts_with(&TIMESTAMP);
        if !options.is_empty() && !stamped {
            return None;
        }
        let len = headers.l3_end.checked_sub(headers.l4_payload)?;
        if len == 0 {
            return None;
        }
        Some(Segment {
            sequence: be32(head, l4 + 4)?,
            ack: be32(head, l4 + 8)?,
            window: (be32(head, l4 + 12)? & 0xffff) as u16,
            push: headers.tcp_flags & PSH != 0,
            ttl: headers.ttl,
            link: *head.first_chunk()?,
            tclass: headers.tclass,
            options,
            ip_payload: headers.l3_end - l4,
            len,
            sum: packet.sum(headers.l4_payload, headers.l3_end),
        })
    }
}

/// Segments merged so far.
struct Session {
    flow: Flow,
    due: Time,
    /// Of the first segment.
    report: Report,
    link: [u8; 12],
    tclass: u8,
    /// Sequence number that continues it.
    next: u32,
    ack: u32,
    window: u16,
    min_ttl: u8,
    push: bool,
    segments: u8,
    /// Over the data.
    sum: Sum,
    ip_payload: usize,
    max_payload: usize,
    /// Where in the frame the TCP options are, behind which the data follows.
    options: std::ops::Range<usize>,
    /// The first segment and the data of the others.
    frame: Vec<u8>,
}

impl Session {
    fn data_len(&self) -> usize {
        self.frame.len() - self.options.end
    }

    fn continued_by(&self, segment: &Segment<'_>) -> bool {
        segment.sequence == self.next
            && segment.ack.wrapping_sub(self.ack) < 1 << 31
            && self.frame.get(self.options.clone()) == Some(segment.options)
            && (segment.link, segment.tclass) == (self.link, self.tclass)
            && self.ip_payload + segment.len <= self.max_payload
            && self.frame.len() + segment.len <= MAX_LEN
            && self.segments < u8::MAX
    }

    fn append(&mut self, packet: &Packet<'_>, segment: &Segment<'_>) {
        let headers = &packet.headers;
        let sum = segment.sum.folded();
        self.sum = self.sum.add_word(if self.data_len().is_multiple_of(2) {
            sum
        } else {
            sum.swap_bytes()
        });
        packet
            .bytes(false)
            .append_to(headers.l4_payload, headers.l3_end, &mut self.frame);
        self.next = self.next.wrapping_add(segment.len as u32);
        self.ack = segment.ack;
        self.window = segment.window;
        self.min_ttl = self.min_ttl.min(segment.ttl);
        self.push |= segment.push;
        self.segments += 1;
        self.ip_payload += segment.len;
    }

    /// Whether another segment like those before would be too much.
    fn is_full(&self, segment: &Segment<'_>) -> bool {
        self.push || self.ip_payload + segment.len > self.max_payload || self.segments == u8::MAX
    }
}

/// All sessions of a NIC.
#[derive(Default)]
pub(super) struct Sessions {
    /// In the order they began.
    active: Vec<Session>,
    /// Buffers of sessions that have ended.
    spare: Vec<Vec<u8>>,
    /// Deadline that the NIC's timers hold.
    timer: Option<Time>,
}

/// Merges a packet that goes to queue `rqn`. False if it is to be delivered as it is; then what it
/// follows has been delivered.
pub(super) fn merge(
    core: &mut Core,
    rqn: u32,
    packet: &Packet<'_>,
    report: &Report,
    rules: Rules,
    segs: &mut Vec<DataSeg>,
) -> bool {
    let headers = &packet.headers;
    let wanted = match headers.l3 {
        L3::Ipv4 => rules.ipv4,
        L3::Ipv6 => rules.ipv6,
        L3::Other => false,
    };
    if headers.l4 != L4::Tcp || !wanted {
        return false;
    }
    let flow = Flow::of(rqn, headers);
    let segment = Segment::of(packet, report);
    let sessions = &mut core.eth.lro;
    let found = sessions
        .active
        .iter()
        .position(|session| session.flow == flow);
    if let Some(index) = found {
        if let Some(segment) = &segment
            && let Some(session) = sessions.active.get_mut(index)
            && session.continued_by(segment)
        {
            session.append(packet, segment);
            if session.is_full(segment) {
                close(core, index, segs);
            }
            return true;
        }
        close(core, index, segs);
    }
    match segment {
        Some(segment) if !segment.push && segment.ip_payload + segment.len <= rules.max_payload => {
            open(core, flow, packet, report, rules, &segment, segs);
            true
        }
        _ => false,
    }
}

fn open(
    core: &mut Core,
    flow: Flow,
    packet: &Packet<'_>,
    report: &Report,
    rules: Rules,
    segment: &Segment<'_>,
    segs: &mut Vec<DataSeg>,
) {
    make_room(core, flow.rqn, segs);
    let headers = &packet.headers;
    let removed = if report.tag.is_some() { 4 } else { 0 };
    let sessions = &mut core.eth.lro;
    let mut frame = sessions.spare.pop().unwrap_or_default();
    frame.clear();
    frame.reserve(MAX_LEN);
    let end = headers.l3_end - removed;
    packet
        .bytes(report.tag.is_some())
        .append_to(0, end, &mut frame);
    let due = core.now + rules.timeout;
    sessions.active.push(Session {
        flow,
        due,
        report: *report,
        link: segment.link,
        tclass: segment.tclass,
        next: segment.sequence.wrapping_add(segment.len as u32),
        ack: segment.ack,
        window: segment.window,
        min_ttl: segment.ttl,
        push: false,
        segments: 1,
        sum: segment.sum,
        ip_payload: segment.ip_payload,
        max_payload: rules.max_payload,
        options: headers.l4_offset + TCP_LEN - removed..headers.l4_payload - removed,
        frame,
    });
    if sessions.timer.is_none_or(|armed| armed > due) {
        if let Some(old) = sessions.timer.replace(due) {
            core.timers.disarm(old, TimerKey::Lro);
        }
        core.timers.arm(due, TimerKey::Lro);
    }
}

/// Ends the oldest sessions where there are too many.
fn make_room(core: &mut Core, rqn: u32, segs: &mut Vec<DataSeg>) {
    let active = &core.eth.lro.active;
    let mut own = active.iter().enumerate();
    let mut own = own.by_ref().filter(|(_, session)| session.flow.rqn == rqn);
    let oldest = own.next().map(|(index, _)| index);
    let count = usize::from(oldest.is_some()) + own.count();
    match oldest {
        Some(index) if count >= MAX_PER_QUEUE => close(core, index, segs),
        _ if active.len() >= MAX_SESSIONS => close(core, 0, segs),
        _ => {}
    }
}

/// Delivers a session.
fn close(core: &mut Core, index: usize, segs: &mut Vec<DataSeg>) {
    if index >= core.eth.lro.active.len() {
        return;
    }
    let session = core.eth.lro.active.remove(index);
    let mut report = session.report;
    if session.segments > 1 {
        // The driver completes the checksum of the headers that it rewrites from the data's sum.
        report.check_sum = session.sum.folded();
        report.merged = Some(Merged {
            segments: session.segments,
            push: session.push,
            min_ttl: session.min_ttl,
            window: session.window,
            ack: session.ack,
        });
    }
    let Session { flow, frame, .. } = session;
    place(core, flow.rqn, &report, &frame.as_slice(), segs);
    core.eth.lro.spare.push(frame);
}

/// Delivers the sessions that `which` names.
fn close_those(core: &mut Core, which: impl Fn(&Flow, Time) -> bool) {
    let mut segs = std::mem::take(&mut core.eth.lro_segs);
    let mut index = 0;
    while let Some(session) = core.eth.lro.active.get(index) {
        if which(&session.flow, session.due) {
            close(core, index, &mut segs);
        } else {
            index += 1;
        }
    }
    core.eth.lro_segs = segs;
}

/// The time of some sessions is up.
pub fn timeout(core: &mut Core) {
    let now = core.now;
    if core.eth.lro.timer.is_none_or(|due| due > now) {
        return;
    }
    core.eth.lro.timer = None;
    close_those(core, |_, due| due <= now);
    let next = core.eth.lro.active.iter().map(|session| session.due).min();
    if let Some(due) = next {
        core.eth.lro.timer = Some(due);
        core.timers.arm(due, TimerKey::Lro);
    }
}

/// Delivers what is kept for all queues: what is merged changes.
pub fn deliver_all(core: &mut Core) {
    close_those(core, |_, _| true);
}

/// Delivers what is kept for a queue, before it takes nothing more.
pub fn deliver_queue(core: &mut Core, rqn: u32) {
    close_those(core, |flow, _| flow.rqn == rqn);
}

/// Forgets what is kept for a queue, which is reset or gone.
pub fn drop_queue(core: &mut Core, rqn: u32) {
    let sessions = &mut core.eth.lro;
    let mut index = 0;
    while let Some(session) = sessions.active.get(index) {
        if session.flow.rqn == rqn {
            let session = sessions.active.remove(index);
            sessions.spare.push(session.frame);
        } else {
            index += 1;
        }
    }
}
