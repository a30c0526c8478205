//! Whole lives of a driver, in the order of the reference: FreeBSD as traced, Linux as described.

use rocinante_firmware_cmd::mlx5::caps::CapType;
use rocinante_firmware_cmd::mlx5::hca::{
    QueryHcaCapOut, SetDriverVersionIn, SetHcaCapIn, TeardownHcaIn,
};
use rocinante_firmware_cmd::mlx5::mkey::{CreateMkeyIn, CreateMkeyOut};
use rocinante_firmware_cmd::mlx5::resources::{AllocQCounterOut, AllocTransportDomainOut};
use rocinante_firmware_cmd::mlx5::srq::{CreateXrcSrqIn, CreateXrcSrqOut};
use rocinante_firmware_cmd::mlx5::vport::{ModifyNicVportContextIn, SetRoceAddressIn};
use rocinante_firmware_cmd::mlx5::wq::{CreateRmpIn, CreateRmpOut};

use super::*;
use crate::mlx5::hca::State;
use crate::mlx5::leak::Goodbye;

const CURRENT: u16 = 1;
const MAX: u16 = 0;

impl Driver {
    fn caps(&mut self, cap_type: CapType, mode: u16) -> Vec<u8> {
        let output = self.ok(&input(
            Opcode::QueryHcaCap,
            (cap_type as u16) << 1 | mode,
            16,
        ));
        assert_eq!(output.len(), 0x1010);
        output
    }

    /// Sends current capabilities back, as drivers do before they change some.
    fn echo_caps(&mut self, cap_type: CapType) {
        let current = self.caps(cap_type, CURRENT);
        self.caps(cap_type, MAX);
        let mut set = input(Opcode::SetHcaCap, (cap_type as u16) << 1, SetHcaCapIn::SIZE);
        let capability = QueryHcaCapOut::new(&current);
        SetHcaCapIn::new(&mut set)
            .capability_mut()
            .copy_from_slice(capability.capability());
        self.ok(&set);
    }

    fn teardown(&mut self) {
        let mut input = input(Opcode::TeardownHca, 0, 16);
        TeardownHcaIn::new(&mut input).set_profile(0);
        self.ok(&input);
        while self.take(768) > 0 {}
        assert!(self.lent.is_empty());
        self.bare(Opcode::DisableHca);
        let findings = self.nic.core.hca.findings.clone().unwrap();
        assert_eq!(findings.goodbye, Goodbye::Disable);
        assert_eq!(
            (findings.leaked_objects.as_slice(), findings.leaked_pages),
            (&[][..], 0)
        );
        assert_eq!(self.nic.core.hca.state, State::Disabled);
    }

    fn vport(&mut self, set: impl FnOnce(&mut ModifyNicVportContextIn<&mut Vec<u8>>)) {
        let mut modify = input(
            Opcode::ModifyNicVportContext,
            0,
            ModifyNicVportContextIn::SIZE,
        );
        set(&mut ModifyNicVportContextIn::new(&mut modify));
        self.ok(&modify);
    }

    fn gid(&mut self, index: u16, version: u8, last: u8) {
        let mut set = input(Opcode::SetRoceAddress, 0, SetRoceAddressIn::SIZE);
        let mut view = SetRoceAddressIn::new(&mut set);
        view.set_roce_address_index(index);
        if last != 0 {
            let gid = [
                0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, last,
            ];
            view.roce_address_mut()
                .set_source_l3_address(&gid)
                .set_source_mac(&[2, 0, 0, 0, 0, 1])
                .set_roce_l3_type(version / 2)
                .set_roce_version(version);
        }
        self.ok(&set);
    }

    /// A key over all of memory for a kernel user of `pd`.
    fn pa_key(&mut self, pd: u32) -> u32 {
        let mut create = input(Opcode::CreateMkey, 0, CreateMkeyIn::SIZE);
        CreateMkeyIn::new(&mut create)
            .mkc_mut()
            .set_pd(pd)
            .set_qpn(0xff_ffff)
            .set_length64(true)
            .set_lr(true)
            .set_lw(true);
        CreateMkeyOut::new(&self.ok(&create)).mkey_index()
    }

    fn cache_key(&mut self, octwords: u32) -> u32 {
        let mut create = input(Opcode::CreateMkey, 0, CreateMkeyIn::SIZE);
        CreateMkeyIn::new(&mut create)
            .mkc_mut()
            .set_free(true)
            .set_umr_en(true)
            .set_access_mode_1_0(1)
            .set_qpn(0xff_ffff)
            .set_translations_octword_size(octwords)
            .set_log_page_size(12);
        CreateMkeyOut::new(&self.ok(&create)).mkey_index()
    }

    /// Gives what events on the page EQ at `page` ask for, from entry `seen` on.
    fn serve_page_requests(&mut self, page: u64, seen: &mut u64) {
        loop {
            // 64 entries; the owner bit changes with each round.
            let event = eqe(&self.nic, page, *seen % 64);
            if event[1] != 0x0b || u64::from(event[0x3f] & 1) != (*seen / 64) & 1 {
                return;
            }
            *seen += 1;
            let n = u32::from_be_bytes([event[0x24], event[0x25], event[0x26], event[0x27]]);
            self.give(n as usize);
        }
    }

    /// The shared receive queues that both RDMA drivers make for themselves.
    fn driver_srqs(&mut self, pd: u32, cqn: u32, xrcd: u32) -> (u32, u32) {
        let (page, record) = (self.page(), self.page());
        let mut create = input(Opcode::CreateXrcSrq, 0, CreateXrcSrqIn::SIZE + 8);
        let mut view = CreateXrcSrqIn::new(&mut create);
        view.xrc_srqc_mut()
            .set_log_xrc_srq_size(1)
            .set_log_rq_stride(1)
            .set_pd(pd)
            .set_cqn(cqn)
            .set_xrcd(xrcd)
            .set_user_index(0xff_ffff)
            .set_db_record_addr_l((record >> 2) as u32);
        view.pas_mut().set(0, page);
        let xrc_srqn = CreateXrcSrqOut::new(&self.ok(&create)).xrc_srqn();
        let (page, record) = (self.page(), self.page());
        let mut create = input(Opcode::CreateRmp, 0, CreateRmpIn::SIZE + 8);
        let mut view = CreateRmpIn::new(&mut create);
        let mut rmpc = view.rmpc_mut();
        rmpc.set_state(1);
        let mut wq = rmpc.wq_mut();
        wq.set_pd(pd)
            .set_log_wq_sz(1)
            .set_log_wq_stride(5)
            .set_dbr_addr(record);
        wq.pas_mut().set(0, page);
        (xrc_srqn, CreateRmpOut::new(&self.ok(&create)).rmpn())
    }
}

fn number(output: Vec<u8>) -> u32 {
    AllocTransportDomainOut::new(&output).transport_domain()
}

/// Boot attach of FreeBSD 12.1 with the RDMA driver, and `devctl detach`, twice.
#[test]
fn freebsd_attaches_and_detaches() {
    let mut driver = Driver::new();
    for _ in 0..2 {
        let d = &mut driver;
        d.bare(Opcode::EnableHca);
        d.bare(Opcode::QueryIssi);
        d.ok(&by_number(Opcode::SetIssi, 1));
        assert_eq!(d.give_wanted(1), 4);
        d.echo_caps(CapType::General);
        d.echo_caps(CapType::Atomic);
        assert_eq!(d.give_wanted(2), 16);
        d.bare(Opcode::InitHca);
        for cap_type in [
            CapType::General,
            CapType::Ethernet,
            CapType::Roce,
            CapType::FlowTableNic,
        ] {
            d.caps(cap_type, CURRENT);
            d.caps(cap_type, MAX);
        }
        d.bare(Opcode::QuerySpecialContexts);
        d.bare(Opcode::QueryAdapter);
        let uars: Vec<u32> = (0..4).map(|_| d.uar()).collect();
        let cmd_eq = d.eq(uars[0], 1, 1 << 0x0a);
        let async_eq = d.eq(uars[0], 2, 0x1f_22be);
        let page_events = d.page();
        // Before the device writes it, an entry belongs to it: owner bit 1.
        for index in 0..64 {
            d.nic
                .core
                .mem
                .write(page_events + 64 * index + 0x3f, &[1])
                .unwrap();
        }
        let output = d.ok(&create_eq(uars[0], 0, 1 << 0x0b, page_events));
        let page_eq = u32::from(CreateEqOut::new(&output).eq_number());
        let comp_eqs = [d.eq(uars[0], 3, 0), d.eq(uars[0], 4, 0)];

        // mlx5en.
        let cq_uar = d.uar();
        let en_pd = d.pd();
        let td = number(d.bare(Opcode::AllocTransportDomain));
        let en_key = d.pa_key(en_pd);
        d.bare(Opcode::QueryNicVportContext);
        d.vport(|m| {
            m.field_select_mut().set_mtu(true);
            m.nic_vport_context_mut().set_mtu(1522);
        });
        assert_eq!(d.nic.core.vport.mtu, 1522);

        // mlx5ib.
        d.vport(|m| {
            m.field_select_mut().set_roce_en(true);
            m.nic_vport_context_mut().set_roce_en(true);
        });
        let ib_pd = d.pd();
        let c0 = d.cq(uars[0], comp_eqs[0]);
        let xrcds = [d.xrcd(), d.xrcd()];
        let (xrc_srqn, rmpn) = d.driver_srqs(ib_pd, c0, xrcds[0]);
        let counter = AllocQCounterOut::new(&d.bare(Opcode::AllocQCounter)).counter_set_id();
        d.gid(0, 0, 1);
        d.gid(1, 2, 1);
        d.bare(Opcode::QueryHcaVportPkey);
        let mad_pd = d.pd();
        let mad_key = d.pa_key(mad_pd);
        let mut cache = Vec::new();
        let mut events = 0;
        for n in 0..6112 {
            cache.push(d.cache_key(2 << (n % 15)));
            d.serve_page_requests(page_events, &mut events);
        }
        assert!(events > 3, "the cache outgrows the pages given at first");
        d.bare(Opcode::QueryVportState);

        // Detach.
        d.gid(0, 0, 0);
        d.gid(1, 0, 0);
        d.ok(&by_number(Opcode::DestroyMkey, en_key));
        d.ok(&by_number(Opcode::DeallocTransportDomain, td));
        d.ok(&by_number(Opcode::DeallocPd, en_pd));
        d.ok(&by_number(Opcode::DeallocUar, cq_uar));
        d.ok(&by_number(Opcode::DestroyMkey, mad_key));
        d.ok(&by_number(Opcode::DeallocPd, mad_pd));
        d.ok(&by_number(Opcode::DeallocQCounter, u32::from(counter)));
        for key in cache {
            d.ok(&by_number(Opcode::DestroyMkey, key));
        }
        d.ok(&by_number(Opcode::DestroyRmp, rmpn));
        d.ok(&by_number(Opcode::DestroyXrcSrq, xrc_srqn));
        for xrcd in xrcds {
            d.ok(&by_number(Opcode::DeallocXrcd, xrcd));
        }
        d.ok(&by_number(Opcode::DestroyCq, c0));
        d.ok(&by_number(Opcode::DeallocPd, ib_pd));
        d.vport(|m| _ = m.field_select_mut().set_roce_en(true));
        for eqn in [comp_eqs[0], comp_eqs[1], page_eq, async_eq, cmd_eq] {
            d.ok(&by_number(Opcode::DestroyEq, eqn));
        }
        for uar in uars {
            d.ok(&by_number(Opcode::DeallocUar, uar));
        }
        d.teardown();
        // Pages taken back can be given again.
        d.next_page = MEMORY;
    }
}

/// Attach and unload of Linux: three event queues share vector 0, zero pages are not given.
#[test]
fn linux_attaches_and_unloads() {
    let mut driver = Driver::new();
    let d = &mut driver;
    d.bare(Opcode::EnableHca);
    d.bare(Opcode::QueryIssi);
    d.ok(&by_number(Opcode::SetIssi, 1));
    d.give_wanted(1);
    for cap_type in [CapType::General, CapType::Atomic, CapType::Roce] {
        d.echo_caps(cap_type);
    }
    d.give_wanted(2);
    let mut init = input(Opcode::InitHca, 0, 0x20);
    init[0x10..0x20].copy_from_slice(&[7; 16]);
    d.ok(&init);
    let mut version = input(Opcode::SetDriverVersion, 0, SetDriverVersionIn::SIZE);
    SetDriverVersionIn::new(&mut version).set_driver_version(&[b'L'; 0x40]);
    d.ok(&version);
    let types = [
        CapType::General,
        CapType::Ethernet,
        CapType::Atomic,
        CapType::Roce,
        CapType::FlowTableNic,
    ];
    for cap_type in types {
        d.caps(cap_type, CURRENT);
    }
    d.bare(Opcode::QueryAdapter);
    let uar = d.uar();
    let eqs: Vec<u32> = [1u64 << 0x0a, 0x1ff_22be, 1 << 0x0b]
        .into_iter()
        .map(|mask| d.eq(uar, 0, mask))
        .collect();
    d.vport(|m| {
        m.field_select_mut()
            .set_disable_mc_local_lb(true)
            .set_disable_uc_local_lb(true);
        m.nic_vport_context_mut()
            .set_disable_mc_local_lb(false)
            .set_disable_uc_local_lb(false);
    });
    // mlx5_ib.
    d.bare(Opcode::QueryNicVportContext);
    d.vport(|m| {
        m.field_select_mut().set_roce_en(true);
        m.nic_vport_context_mut().set_roce_en(true);
    });
    let xrcds = [d.xrcd(), d.xrcd()];
    let comp_eq = d.eq(uar, 1, 0);
    let (pd, cqn) = (d.pd(), d.cq(uar, comp_eq));
    let (xrc_srqn, rmpn) = d.driver_srqs(pd, cqn, xrcds[0]);
    let counter = AllocQCounterOut::new(&d.bare(Opcode::AllocQCounter)).counter_set_id();
    for index in 0..2 {
        d.gid(index, 2 * index as u8, 1);
    }
    let cache: Vec<u32> = (0..8).map(|_| d.cache_key(2)).collect();
    // A process: its UAR and transport domain.
    let user = (d.uar(), number(d.bare(Opcode::AllocTransportDomain)));

    d.ok(&by_number(Opcode::DeallocTransportDomain, user.1));
    d.ok(&by_number(Opcode::DeallocUar, user.0));
    for key in cache {
        d.ok(&by_number(Opcode::DestroyMkey, key));
    }
    d.gid(0, 0, 0);
    d.gid(1, 0, 0);
    d.ok(&by_number(Opcode::DeallocQCounter, u32::from(counter)));
    d.ok(&by_number(Opcode::DestroyRmp, rmpn));
    d.ok(&by_number(Opcode::DestroyXrcSrq, xrc_srqn));
    d.ok(&by_number(Opcode::DestroyCq, cqn));
    d.ok(&by_number(Opcode::DeallocPd, pd));
    for xrcd in xrcds {
        d.ok(&by_number(Opcode::DeallocXrcd, xrcd));
    }
    d.ok(&by_number(Opcode::DestroyEq, comp_eq));
    for eqn in eqs.into_iter().rev() {
        d.ok(&by_number(Opcode::DestroyEq, eqn));
    }
    d.ok(&by_number(Opcode::DeallocUar, uar));
    d.teardown();
}
