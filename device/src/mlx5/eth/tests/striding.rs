//! Striding receive queues and the UMR work requests that Linux maps their buffers with.

use super::*;
use crate::mlx5::eth::headers::protocol;
use crate::mlx5::eth::headers::tests::ipv4;
use crate::mlx5::eth::tir::Disposition;
use crate::mlx5::wqe::opcode;

/// WQEs of the queues here.
const LOG_WQES: u8 = 2;
/// Strides of a WQE.
const LOG_STRIDES: u8 = 4;
/// Bytes of a stride.
const LOG_STRIDE_SIZE: u8 = 7;
const STRIDE: u64 = 1 << LOG_STRIDE_SIZE;
const WQE_BYTES: u64 = 1 << (LOG_STRIDES + LOG_STRIDE_SIZE);

struct StridingRq {
    rqn: u32,
    ring: u64,
    record: u64,
    cq: TestCq,
}

impl Host {
    fn create_striding(&mut self, cqn: u32, kind: u8, ring: u64, record: u64) -> Vec<u8> {
        let mut create = self.create_rq(cqn, true, 5, ring, record);
        let mut view = CreateRqIn::new(&mut create);
        let mut rqc = view.rqc_mut();
        let mut wq = rqc.wq_mut();
        wq.set_wq_type(kind)
            .set_log_wq_sz(LOG_WQES)
            .set_log_wqe_num_of_strides(LOG_STRIDES.wrapping_sub(9) & 0xf)
            .set_log_wqe_stride_size(LOG_STRIDE_SIZE - 6);
        create
    }

    /// A queue that gets everything.
    fn striding(&mut self, change: impl Fn(&mut CreateRqIn<&mut Vec<u8>>)) -> StridingRq {
        let cq = self.cq();
        let (ring, record) = (self.alloc(0x1000), self.alloc(64));
        let mut create = self.create_striding(cq.cqn, 2, ring, record);
        change(&mut CreateRqIn::new(&mut create));
        let rqn = CreateRqOut::new(&self.ok(&create)).rqn();
        self.ok(&modify_rq(rqn, 0, 1));
        self.nic.core.vport.mtu = 9022;
        assert!(self.nic.core.port.set_mtu(9022));
        let tirn = self.tir(Disposition::Direct(rqn));
        self.all_to(&[tirn]);
        StridingRq {
            rqn,
            ring,
            record,
            cq,
        }
    }

    /// WQE `index`: the next one's index and one data segment.
    fn striding_wqe(&mut self, rq: &StridingRq, index: u16, seg: &[u8]) {
        let mut wqe = vec![0; 16];
        wqe[2..4].copy_from_slice(&((index + 1) % (1 << LOG_WQES)).to_be_bytes());
        wqe.extend(seg);
        self.write(rq.ring + u64::from(index) * 32, &wqe);
    }

    /// All WQEs with buffers of their own, which are returned.
    fn post_strides(&mut self, rq: &StridingRq) -> Vec<u64> {
        let buffers: Vec<u64> = (0..1 << LOG_WQES).map(|_| self.alloc(WQE_BYTES)).collect();
        for (index, buffer) in buffers.iter().enumerate() {
            let seg = data_seg(WQE_BYTES as u32, self.lkey, *buffer);
            self.striding_wqe(rq, index as u16, &seg);
        }
        self.write(rq.record, &(1u32 << LOG_WQES).to_be_bytes());
        buffers
    }

    /// A key for `pages` pages that UMR fills, as Linux creates one for each striding queue: with
    /// `mode` 1 of pages, with 3 of pages in other keys (KSM).
    fn umr_key(&mut self, mode: u8, pages: u32) -> u32 {
        let mut mkey = input(Opcode::CreateMkey, 0, CreateMkeyIn::SIZE);
        let mut view = CreateMkeyIn::new(&mut mkey);
        let mut mkc = view.mkc_mut();
        mkc.set_free(true)
            .set_umr_en(true)
            .set_lr(true)
            .set_lw(true)
            .set_access_mode_1_0(mode)
            .set_qpn(0xff_ffff)
            .set_pd(self.pd)
            .set_len(u64::from(pages) << 12)
            .set_translations_octword_size(if mode == 1 { pages.div_ceil(2) } else { pages })
            .set_log_page_size(12);
        CreateMkeyOut::new(&self.ok(&mkey)).mkey_index() << 8
    }

    /// A queue for internal operations.
    fn icosq(&mut self, reg_umr: bool) -> TestSq {
        let cq = self.cq();
        let (ring, record) = (self.alloc(64 << LOG_SQ_SIZE), self.alloc(64));
        let mut create = self.create_sq(cq.cqn, 0, ring, record);
        let mut view = CreateSqIn::new(&mut create);
        view.sqc_mut().set_tis_lst_sz(0).set_reg_umr(reg_umr);
        let sqn = CreateSqOut::new(&self.ok(&create)).sqn();
        self.ok(&modify_sq(sqn, 0, 1));
        TestSq {
            sqn,
            ring,
            record,
            producer: 0,
            cq,
        }
    }

    /// Maps `pages` at page `first` of `mkey`, as `mlx5e_alloc_rx_mpwqe` does.
    fn umr(&mut self, sq: &mut TestSq, mkey: u32, first: u16, pages: &[u64]) {
        let list: Vec<u8> = pages
            .iter()
            .flat_map(|page| (page | 3).to_be_bytes())
            .collect();
        self.umr_list(sq, mkey, first / 2, &list);
    }

    /// Writes `list` at octword `offset` of the list of `mkey`.
    fn umr_list(&mut self, sq: &mut TestSq, mkey: u32, offset: u16, list: &[u8]) {
        let mut wqe = vec![0; 112];
        // Translation offset and list inline.
        wqe[0] = 0x90;
        wqe[4..6].copy_from_slice(&(list.len() as u16).div_ceil(16).to_be_bytes());
        wqe[6..8].copy_from_slice(&offset.to_be_bytes());
        // Only MLX5_MKEY_MASK_FREE.
        wqe[8..16].copy_from_slice(&(1u64 << 29).to_be_bytes());
        wqe.extend(list);
        wqe.resize((wqe.len() + 16).next_multiple_of(64) - 16, 0);
        let index = self.post(sq, opcode::UMR, true, &wqe);
        let at = sq.ring + u64::from(index % (1 << LOG_SQ_SIZE)) * 64;
        self.write(at + 12, &mkey.to_be_bytes());
        self.ring_doorbell(sq);
    }
}

fn frame(len: usize) -> Vec<u8> {
    ipv4(None, protocol::UDP, (5, 6), &pattern(len - 42))
}

/// WQE, first stride, and `byte_cnt`: filler, strides, bytes.
fn span(cqe: &[u8; 64]) -> (u16, u16, bool, u16, u16) {
    assert_eq!(cqe[63] >> 4, 2, "{cqe:02x?}");
    let count = be32(cqe, 0x2c);
    (
        be16(cqe, 2),
        be16(cqe, 0x3c),
        count >> 31 == 1,
        (count >> 16) as u16 & 0x7fff,
        count as u16,
    )
}

#[test]
fn packets_fill_strides_and_a_filler_gives_up_what_is_too_little() {
    let mut host = Host::new(1);
    let mut rq = host.striding(|_| ());
    let buffers = host.post_strides(&rq);
    // 1 + 12 strides of WQE 0; the next needs 5 of the 3 that are left.
    let frames = [frame(128), frame(1500), frame(600), frame(64)];
    for frame in &frames {
        host.receive(frame);
    }
    let mut cqes = Vec::new();
    while let Some(cqe) = host.poll(&mut rq.cq) {
        cqes.push(span(&cqe));
    }
    assert_eq!(
        cqes,
        [
            (0, 0, false, 1, 128),
            (0, 1, false, 12, 1500),
            (0, 13, true, 3, 0),
            (1, 0, false, 5, 600),
            (1, 5, false, 1, 64),
        ]
    );
    assert_eq!(host.read(buffers[0], 128), frames[0]);
    assert_eq!(host.read(buffers[0] + STRIDE, 1500), frames[1]);
    assert_eq!(host.read(buffers[1], 600), frames[2]);
    assert_eq!(host.read(buffers[1] + 5 * STRIDE, 64), frames[3]);
    // A WQE that is used to its last stride needs no filler.
    host.receive(&frame(10 * STRIDE as usize));
    host.receive(&frame(100));
    assert_eq!(
        host.poll(&mut rq.cq).map(|cqe| span(&cqe)),
        Some((1, 6, false, 10, 1280))
    );
    assert_eq!(
        host.poll(&mut rq.cq).map(|cqe| span(&cqe)),
        Some((2, 0, false, 1, 100))
    );
}

#[test]
fn the_list_goes_round_and_an_empty_queue_drops_until_it_is_filled() {
    let mut host = Host::new(1);
    let mut rq = host.striding(|_| ());
    let buffers = host.post_strides(&rq);
    let large = frame(WQE_BYTES as usize);
    for index in 0..4 {
        host.receive(&large);
        let cqe = host.poll(&mut rq.cq).expect("a completion");
        assert_eq!(span(&cqe), (index, 0, false, 16, WQE_BYTES as u16));
    }
    host.receive(&frame(64));
    assert!(host.poll(&mut rq.cq).is_none(), "nothing is posted");
    host.write(rq.record, &5u32.to_be_bytes());
    host.receive(&frame(64));
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(span(&cqe), (0, 0, false, 1, 64));
    assert_eq!(host.read(buffers[0], 64), frame(64));
    // With no other WQE the rest of this one is given up all the same: its driver gets it back.
    host.receive(&large);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(span(&cqe), (0, 1, true, 15, 0));
    assert!(host.poll(&mut rq.cq).is_none());
}

#[test]
fn two_bytes_stay_free_where_that_is_asked_for() {
    let mut host = Host::new(1);
    let mut rq = host.striding(|rq| {
        rq.rqc_mut().wq_mut().set_two_byte_shift_en(true);
    });
    let buffers = host.post_strides(&rq);
    host.write(buffers[0], &[0xee; 512]);
    host.receive(&frame(127));
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(span(&cqe), (0, 0, false, 2, 127));
    assert_eq!(host.read(buffers[0], 2), [0xee; 2]);
    assert_eq!(host.read(buffers[0] + 2, 127), frame(127));
}

#[test]
fn linux_maps_pages_with_umr_and_packets_land_in_them() {
    let mut host = Host::new(1);
    let mut rq = host.striding(|_| ());
    let mut sq = host.icosq(true);
    // WQEs are 2 KiB here, in 16 KiB of the key each, of which they use the last pages.
    let mkey = host.umr_key(1, 64);
    let pages: Vec<u64> = (0..4).map(|_| host.alloc(0x1000)).rev().collect();
    for index in 0..4u16 {
        let seg = data_seg(WQE_BYTES as u32, mkey, 0x4000 * u64::from(index) + 0xe00);
        host.striding_wqe(&rq, index, &seg);
    }
    host.umr(&mut sq, mkey, 4, &pages);
    let cqe = host.poll(&mut sq.cq).expect("a completion");
    assert_eq!((cqe[63] >> 4, cqe[0x38], be16(&cqe, 0x3c)), (0, 0x25, 0));
    host.umr(&mut sq, mkey, 0, &[pages[2], pages[3]]);
    let cqe = host.poll(&mut sq.cq).expect("a completion");
    assert_eq!((cqe[63] >> 4, be16(&cqe, 0x3c)), (0, 3));
    host.write(rq.record, &4u32.to_be_bytes());
    // 4 strides in the first page, the rest in the second.
    let sent = frame(1600);
    host.receive(&sent);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(span(&cqe), (0, 0, false, 13, 1600));
    assert_eq!(host.read(pages[2] + 0xe00, 0x200), sent[..0x200]);
    assert_eq!(host.read(pages[3], 1600 - 0x200), sent[0x200..]);
    host.receive(&sent);
    host.poll(&mut rq.cq).expect("the filler");
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(span(&cqe), (1, 0, false, 13, 1600));
    assert_eq!(host.read(pages[0] + 0xe00, 0x200), sent[..0x200]);
    assert_eq!(host.read(pages[1], 1600 - 0x200), sent[0x200..]);
    // WQE 2 was never mapped.
    host.receive(&sent);
    host.poll(&mut rq.cq).expect("the filler");
    let cqe = host.poll(&mut rq.cq).expect("an error");
    assert_eq!((cqe[63] >> 4, cqe[0x37]), (0xe, 4));
    assert_eq!((be16(&cqe, 2), be16(&cqe, 0x3c)), (2, 0));
    assert_eq!(host.nic.core.eth.rqs.get(rq.rqn).unwrap().state as u8, 3);
    let cqe = host.poll(&mut rq.cq).expect("a flushed WQE");
    assert_eq!((cqe[63] >> 4, cqe[0x37], be16(&cqe, 2)), (0xe, 5, 3));
    assert!(host.poll(&mut rq.cq).is_none());
    // Linux' recovery: reset, then ready with nothing posted.
    host.ok(&modify_rq(rq.rqn, 3, 0));
    host.write(rq.record, &[0; 4]);
    host.ok(&modify_rq(rq.rqn, 0, 1));
    host.write(rq.record, &2u32.to_be_bytes());
    host.receive(&sent);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(span(&cqe), (0, 0, false, 13, 1600));
}

#[test]
fn umr_is_refused_where_it_must_be() {
    let mut host = Host::new(1);
    let mkey = host.umr_key(1, 4);
    let page = host.alloc(0x1000);
    let fault = |host: &mut Host, sq: &mut TestSq| {
        let cqe = host.poll(&mut sq.cq).expect("a completion");
        (cqe[63] >> 4, cqe[0x37])
    };
    let mut sq = host.icosq(false);
    host.umr(&mut sq, mkey, 0, &[page, page]);
    assert_eq!(fault(&mut host, &mut sq), (0xd, 2), "without reg_umr");
    let mut sq = host.icosq(true);
    host.umr(&mut sq, mkey + 0x100, 0, &[page, page]);
    assert_eq!(fault(&mut host, &mut sq), (0xd, 6), "no such key");
    assert_eq!(host.nic.core.eth.sqs.get(sq.sqn).unwrap().state as u8, 3);
    host.umr(&mut sq, mkey, 0, &[page, page]);
    assert_eq!(fault(&mut host, &mut sq), (0xd, 5), "flushed");
    let mut sq = host.icosq(true);
    host.umr(&mut sq, host.lkey, 0, &[page, page]);
    assert_eq!(fault(&mut host, &mut sq), (0xd, 6), "a key without umr_en");
    // Beyond the key's capacity: nothing is stored.
    let mut sq = host.icosq(true);
    host.umr(&mut sq, mkey, 0xfffe, &[page; 16]);
    assert_eq!(fault(&mut host, &mut sq), (0, 0));
    let who = crate::mlx5::mkey::Accessor {
        pd: Some(host.pd),
        qpn: 1,
        reserved_lkey: false,
    };
    let none = crate::mlx5::mkey::Rights::NONE;
    let at = |host: &Host, va| {
        let mkeys = &host.nic.core.mkeys;
        mkeys.resolve(who, mkey, va, 1, none, &mut |_, _| ())
    };
    for va in [0, 0x3fff, 0x4000, u64::MAX] {
        assert!(at(&host, va).is_err(), "{va:#x}");
    }
}

#[test]
fn too_long_for_a_wqe_or_for_its_list() {
    let mut host = Host::new(1);
    let mut rq = host.striding(|_| ());
    host.post_strides(&rq);
    host.receive(&frame(64));
    host.poll(&mut rq.cq).expect("a completion");
    host.receive(&frame(WQE_BYTES as usize + 1));
    let cqe = host.poll(&mut rq.cq).expect("an error");
    assert_eq!((cqe[63] >> 4, cqe[0x37]), (0xe, 1));
    assert_eq!((be16(&cqe, 2), be16(&cqe, 0x3c)), (0, 1));
    let flushed: Vec<(u8, u16, u16)> = std::iter::from_fn(|| host.poll(&mut rq.cq))
        .map(|cqe| (cqe[0x37], be16(&cqe, 2), be16(&cqe, 0x3c)))
        .collect();
    assert_eq!(flushed, [(5, 1, 0), (5, 2, 0), (5, 3, 0)]);

    let mut host = Host::new(1);
    let mut rq = host.striding(|_| ());
    let at = host.alloc(0x1000);
    let seg = data_seg(300, host.lkey, at);
    host.striding_wqe(&rq, 0, &seg);
    host.write(rq.record, &1u32.to_be_bytes());
    host.receive(&frame(256));
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(span(&cqe), (0, 0, false, 2, 256));
    host.receive(&frame(64));
    let cqe = host.poll(&mut rq.cq).expect("an error");
    assert_eq!((cqe[63] >> 4, cqe[0x37], be16(&cqe, 0x3c)), (0xe, 1, 2));
}

#[test]
fn cyclic_striding_queues_count_their_wqes() {
    let mut host = Host::new(1);
    let mut rq = host.striding(|rq| {
        rq.rqc_mut().wq_mut().set_wq_type(3).set_log_wq_stride(4);
    });
    let buffers: Vec<u64> = (0..4).map(|_| host.alloc(WQE_BYTES)).collect();
    for (index, buffer) in buffers.iter().enumerate() {
        let seg = data_seg(WQE_BYTES as u32, host.lkey, *buffer);
        host.write(rq.ring + index as u64 * 16, &seg);
    }
    for posted in 1..=6u32 {
        host.write(rq.record, &posted.to_be_bytes());
        host.receive(&frame(WQE_BYTES as usize));
        let cqe = host.poll(&mut rq.cq).expect("a completion");
        let expected = (posted as u16 - 1, 0, false, 16, WQE_BYTES as u16);
        assert_eq!(span(&cqe), expected);
    }
}

#[test]
fn unaligned_buffers_are_mapped_through_another_key() {
    let mut host = Host::new(1);
    let mut rq = host.striding(|_| ());
    let mut sq = host.icosq(true);
    let mkey = host.umr_key(3, 8);
    // As for AF_XDP: pages that begin anywhere, here 0x340 bytes into one.
    let places: Vec<u64> = (0..2).map(|_| host.alloc(0x2000) + 0x340).collect();
    let mut list = Vec::new();
    for place in &places {
        list.extend(data_seg(0, host.lkey, *place));
    }
    host.umr_list(&mut sq, mkey, 2, &list);
    let cqe = host.poll(&mut sq.cq).expect("a completion");
    assert_eq!((cqe[63] >> 4, cqe[0x38]), (0, 0x25));
    let seg = data_seg(WQE_BYTES as u32, mkey, 0x2c00);
    host.striding_wqe(&rq, 0, &seg);
    host.write(rq.record, &1u32.to_be_bytes());
    let sent = frame(1500);
    host.receive(&sent);
    let cqe = host.poll(&mut rq.cq).expect("a completion");
    assert_eq!(span(&cqe), (0, 0, false, 12, 1500));
    assert_eq!(host.read(places[0] + 0xc00, 0x400), sent[..0x400]);
    assert_eq!(host.read(places[1], 1500 - 0x400), sent[0x400..]);
    // Entries in front of those that were written lead nowhere.
    host.write(rq.record, &2u32.to_be_bytes());
    let seg = data_seg(WQE_BYTES as u32, mkey, 0x1000);
    host.striding_wqe(&rq, 1, &seg);
    host.receive(&sent);
    host.poll(&mut rq.cq).expect("the filler");
    let cqe = host.poll(&mut rq.cq).expect("an error");
    assert_eq!((cqe[63] >> 4, cqe[0x37], be16(&cqe, 2)), (0xe, 4, 1));
}
