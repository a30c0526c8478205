//! What drivers of FreeBSD 13 to 15 ask for in addition to 12.1's, as their sources have it: composed here, not recorded.
//!
//! From 14 on flow tables, TIRs and RQTs are made when the driver attaches, with a queue that drops; opening puts the
//! real queues into the RQTs. VXLAN is set up whatever the capabilities say. Sources: `sys/dev/mlx5/mlx5_en`,
//! `mlx5_en_main.c` (`mlx5e_create_ifp`, `mlx5e_open_locked`), `mlx5_en_flow_table.c`, `mlx5_en_iq.c`;
//! `mlx5_core/mlx5_fs_tcp.c`, `mlx5_main.c`.

use rocinante_firmware_cmd::mlx5::cq::{CreateCqIn, CreateCqOut};
use rocinante_firmware_cmd::mlx5::eth::{
    CreateRqtIn, CreateRqtOut, CreateTirIn, CreateTirOut, CreateTisIn, CreateTisOut, ModifyRqtIn,
    VxlanUdpDportIn,
};
use rocinante_firmware_cmd::mlx5::flow::{
    CreateFlowGroupIn, CreateFlowGroupOut, CreateFlowTableIn, CreateFlowTableOut, FteMatchParam,
    SetFlowTableEntryIn,
};
use rocinante_firmware_cmd::mlx5::hca::SetDriverVersionIn;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::resources::AllocQCounterOut;
use rocinante_firmware_cmd::mlx5::vport::ModifyNicVportContextIn;
use rocinante_firmware_cmd::mlx5::wq::{
    CreateRqIn, CreateRqOut, CreateSqIn, CreateSqOut, ModifyRqIn, ModifySqIn,
};
use rocinante_harness::driver::command::{SLOT, by_number, input};
use rocinante_tests::replay::Session;
use rocinante_tests::replay::numbers::Object;

use super::{send, session};

/// Memory for queues.
const BUFFERS: u64 = 0x1e00_0000;

const RESET: u8 = 0;
const READY: u8 = 1;
const ERROR: u8 = 3;

/// A bit matched in each field that a group of these tables has.
type Fill = fn(&mut FteMatchParam<&mut [u8]>);

struct Newer {
    session: Session,
    pages: u64,
    /// Objects in the order they were made, to be destroyed in the opposite one.
    made: Vec<Vec<u8>>,
}

impl Newer {
    #[track_caller]
    fn ok(&mut self, input: &[u8]) -> Vec<u8> {
        match self.session.execute(SLOT, input, 0x110) {
            Ok(output) => output,
            Err(error) => panic!("{error}"),
        }
    }

    /// Gone in its turn.
    fn destroys(&mut self, opcode: Opcode, number: u32) {
        self.made.push(by_number(opcode, number));
    }

    fn page(&mut self) -> u64 {
        self.pages += 0x1000;
        self.pages
    }

    fn number(&self, object: Object, recorded: u32) -> u32 {
        let number = self.session.numbers.get(object, recorded);
        number.expect("made when attaching")
    }

    fn cq(&mut self, log_size: u8) -> u32 {
        let mut create = input(Opcode::CreateCq, 0, CreateCqIn::SIZE + 8 * 16);
        let (uar, eqn) = (self.number(Object::Uar, 0x10), self.number(Object::Eq, 4));
        let record = self.page();
        let pages: Vec<u64> = (0..16).map(|_| self.page()).collect();
        let mut view = CreateCqIn::new(&mut create);
        view.cqc_mut()
            .set_log_cq_size(log_size)
            .set_uar_page(uar)
            .set_c_eqn(eqn)
            .set_dbr_addr(record);
        for (index, page) in pages.into_iter().enumerate() {
            view.pas_mut().set(index, page);
        }
        let cqn = CreateCqOut::new(&self.ok(&create)).cqn();
        self.destroys(Opcode::DestroyCq, cqn);
        cqn
    }

    /// A linked list of `2^log_size` WQEs of one segment.
    fn rq(&mut self, cqn: u32, log_size: u8, counters: u8) -> u32 {
        let mut create = input(Opcode::CreateRq, 0, CreateRqIn::SIZE + 8 * 8);
        let pd = self.number(Object::Pd, 1);
        let record = self.page();
        let pages: Vec<u64> = (0..8).map(|_| self.page()).collect();
        let mut view = CreateRqIn::new(&mut create);
        let mut rqc = view.rqc_mut();
        rqc.set_flush_in_error_en(true)
            .set_cqn(cqn)
            .set_counter_set_id(counters);
        let mut wq = rqc.wq_mut();
        wq.set_pd(pd)
            .set_end_padding_mode(1)
            .set_dbr_addr(record)
            .set_log_wq_stride(5)
            .set_log_wq_sz(log_size);
        for (index, page) in pages.into_iter().enumerate() {
            wq.pas_mut().set(index, page);
        }
        let rqn = CreateRqOut::new(&self.ok(&create)).rqn();
        self.destroys(Opcode::DestroyRq, rqn);
        self.modify_rq(rqn, RESET, READY);
        rqn
    }

    fn modify_rq(&mut self, rqn: u32, from: u8, to: u8) {
        let mut modify = input(Opcode::ModifyRq, 0, ModifyRqIn::SIZE);
        let mut view = ModifyRqIn::new(&mut modify);
        view.set_rqn(rqn).set_rq_state(from);
        view.rqc_mut().set_state(to);
        self.ok(&modify);
    }

    fn sq(&mut self, cqn: u32, tisn: u32) -> u32 {
        let mut create = input(Opcode::CreateSq, 0, CreateSqIn::SIZE + 8 * 16);
        let (pd, uar) = (self.number(Object::Pd, 1), self.number(Object::Uar, 0x14));
        let record = self.page();
        let pages: Vec<u64> = (0..16).map(|_| self.page()).collect();
        let mut view = CreateSqIn::new(&mut create);
        let mut sqc = view.sqc_mut();
        sqc.set_flush_in_error_en(true)
            .set_allow_swp(true)
            .set_cqn(cqn)
            .set_tis_lst_sz(1)
            .set_tis_num_0(tisn);
        let mut wq = sqc.wq_mut();
        wq.set_wq_type(1)
            .set_pd(pd)
            .set_uar_page(uar)
            .set_dbr_addr(record)
            .set_log_wq_stride(6)
            .set_log_wq_sz(10);
        for (index, page) in pages.into_iter().enumerate() {
            wq.pas_mut().set(index, page);
        }
        let sqn = CreateSqOut::new(&self.ok(&create)).sqn();
        self.destroys(Opcode::DestroySq, sqn);
        self.modify_sq(sqn, RESET, READY);
        sqn
    }

    fn modify_sq(&mut self, sqn: u32, from: u8, to: u8) {
        let mut modify = input(Opcode::ModifySq, 0, ModifySqIn::SIZE);
        let mut view = ModifySqIn::new(&mut modify);
        view.set_sqn(sqn).set_sq_state(from);
        view.sqc_mut().set_state(to);
        self.ok(&modify);
    }

    fn rqt(&mut self, rqn: u32, size: u16) -> u32 {
        let len = CreateRqtIn::SIZE + 4 * usize::from(size);
        let mut create = input(Opcode::CreateRqt, 0, len);
        let mut view = CreateRqtIn::new(&mut create);
        let mut rqtc = view.rqtc_mut();
        rqtc.set_rqt_actual_size(size).set_rqt_max_size(size);
        for index in 0..usize::from(size) {
            rqtc.rq_num_mut().get_mut(index).set_rq_num(rqn);
        }
        let rqtn = CreateRqtOut::new(&self.ok(&create)).rqtn();
        self.destroys(Opcode::DestroyRqt, rqtn);
        rqtn
    }

    fn modify_rqt(&mut self, rqtn: u32, rqns: &[u32]) {
        let len = ModifyRqtIn::SIZE + 4 * rqns.len();
        let mut modify = input(Opcode::ModifyRqt, 0, len);
        let mut view = ModifyRqtIn::new(&mut modify);
        view.set_rqtn(rqtn);
        view.bitmask_mut().set_rqn_list(true);
        let mut rqtc = view.rqtc_mut();
        rqtc.set_rqt_actual_size(rqns.len() as u16);
        for (index, rqn) in rqns.iter().enumerate() {
            rqtc.rq_num_mut().get_mut(index).set_rq_num(*rqn);
        }
        self.ok(&modify);
    }

    /// All through the table, with symmetric Toeplitz; of tunnels by the inner headers.
    fn tir(&mut self, rqtn: u32, l3: bool, l4: bool, fields: u32, inner: bool) -> u32 {
        const TOEPLITZ: u8 = 2;
        let mut create = input(Opcode::CreateTir, 0, CreateTirIn::SIZE);
        let td = self.number(Object::TransportDomain, 1);
        let mut view = CreateTirIn::new(&mut create);
        let mut tirc = view.tirc_mut();
        tirc.set_disp_type(1)
            .set_rx_hash_symmetric(true)
            .set_tunneled_offload_en(inner)
            .set_indirect_table(rqtn)
            .set_rx_hash_fn(TOEPLITZ)
            .set_transport_domain(td)
            .set_rx_hash_toeplitz_key(&[0x6d; 0x28]);
        let mut select = if inner {
            tirc.rx_hash_field_selector_inner_mut()
        } else {
            tirc.rx_hash_field_selector_outer_mut()
        };
        select
            .set_l3_prot_type(l3)
            .set_l4_prot_type(l4)
            .set_selected_fields(fields);
        let tirn = CreateTirOut::new(&self.ok(&create)).tirn();
        self.destroys(Opcode::DestroyTir, tirn);
        tirn
    }

    fn table(&mut self, level: u8, log_size: u8) -> u32 {
        let mut create = input(Opcode::CreateFlowTable, 0, CreateFlowTableIn::SIZE);
        CreateFlowTableIn::new(&mut create)
            .flow_table_context_mut()
            .set_level(level)
            .set_log_size(log_size);
        let id = CreateFlowTableOut::new(&self.ok(&create)).table_id();
        let mut destroy = input(Opcode::DestroyFlowTable, 0, 0x40);
        destroy[0x14..0x18].copy_from_slice(&id.to_be_bytes());
        self.made.push(destroy);
        id
    }

    fn group(&mut self, table: u32, first: u32, last: u32, enable: u8, fill: Fill) -> u32 {
        let mut create = input(Opcode::CreateFlowGroup, 0, CreateFlowGroupIn::SIZE);
        let mut view = CreateFlowGroupIn::new(&mut create);
        view.set_table_id(table)
            .set_start_flow_index(first)
            .set_end_flow_index(last)
            .set_match_criteria_enable(enable);
        fill(&mut view.match_criteria_mut());
        let id = CreateFlowGroupOut::new(&self.ok(&create)).group_id();
        let mut destroy = input(Opcode::DestroyFlowGroup, 0, 0x40);
        destroy[0x14..0x18].copy_from_slice(&table.to_be_bytes());
        destroy[0x18..0x1c].copy_from_slice(&id.to_be_bytes());
        self.made.push(destroy);
        id
    }

    /// An entry that forwards to a table (1) or TIR (2).
    fn rule(&mut self, table: u32, group: u32, index: u32, (kind, id): (u8, u32), fill: Fill) {
        const FORWARD: u16 = 4;
        let mut set = input(Opcode::SetFlowTableEntry, 0, SetFlowTableEntryIn::SIZE + 8);
        let mut view = SetFlowTableEntryIn::new(&mut set);
        view.set_table_id(table).set_flow_index(index);
        let mut context = view.flow_context_mut();
        context
            .set_group_id(group)
            .set_flow_tag(0xff_fffe)
            .set_action(FORWARD)
            .set_destination_list_size(1);
        fill(&mut context.match_value_mut());
        let mut list = context.destination_mut();
        list.get_mut(0)
            .set_destination_type(kind)
            .set_destination_id(id);
        self.ok(&set);
        let mut delete = input(Opcode::DeleteFlowTableEntry, 0, 0x40);
        delete[0x14..0x18].copy_from_slice(&table.to_be_bytes());
        delete[0x20..0x24].copy_from_slice(&index.to_be_bytes());
        self.made.push(delete);
    }
}

/// Selected fields: addresses; and ports; addresses and the SPI.
const IP: u32 = 3;
const IP_PORTS: u32 = 0xf;
const IP_SPI: u32 = 0x13;

/// `match_criteria_enable`.
const OUTER: u8 = 1;
const INNER: u8 = 4;

fn nothing(_: &mut FteMatchParam<&mut [u8]>) {}

/// Fields of `mlx5_fs_tcp.c`, IPv4.
fn connection(param: &mut FteMatchParam<&mut [u8]>) {
    let mut outer = param.outer_headers_mut();
    outer
        .set_ip_protocol(0xff)
        .set_ip_version(0xf)
        .set_cvlan_tag(true)
        .set_first_vid(0xfff)
        .set_tcp_sport(0xffff)
        .set_tcp_dport(0xffff);
    let mut last = [0; 16];
    last[12..].fill(0xff);
    outer
        .set_src_ipv4_src_ipv6(&last)
        .set_dst_ipv4_dst_ipv6(&last);
}

fn vid(param: &mut FteMatchParam<&mut [u8]>) {
    param
        .outer_headers_mut()
        .set_cvlan_tag(true)
        .set_first_vid(0xfff);
}

fn tagged(param: &mut FteMatchParam<&mut [u8]>) {
    param.outer_headers_mut().set_cvlan_tag(true);
}

fn udp_port(param: &mut FteMatchParam<&mut [u8]>) {
    let mut outer = param.outer_headers_mut();
    outer
        .set_ethertype(0xffff)
        .set_ip_protocol(0xff)
        .set_udp_dport(0xffff);
}

fn vxlan(param: &mut FteMatchParam<&mut [u8]>) {
    let mut outer = param.outer_headers_mut();
    outer
        .set_ethertype(0x0800)
        .set_ip_protocol(17)
        .set_udp_dport(4789);
}

fn inner_protocol(param: &mut FteMatchParam<&mut [u8]>) {
    let mut inner = param.inner_headers_mut();
    inner.set_ethertype(0xffff).set_ip_protocol(0xff);
}

fn inner_tcp(param: &mut FteMatchParam<&mut [u8]>) {
    let mut inner = param.inner_headers_mut();
    inner.set_ethertype(0x0800).set_ip_protocol(6);
}

#[test]
fn what_freebsd_14_and_15_ask_for_beside() {
    let mut session = session();
    send(&mut session, "attach.txt");
    let mut newer = Newer {
        session,
        pages: BUFFERS,
        made: Vec::new(),
    };

    // mlx5_main.c: the driver's name, and no loopback of its own frames.
    let mut version = input(Opcode::SetDriverVersion, 0, SetDriverVersionIn::SIZE);
    version[0x10..0x18].copy_from_slice(b"FreeBSD,");
    newer.ok(&version);
    let mut modify = input(
        Opcode::ModifyNicVportContext,
        0,
        ModifyNicVportContextIn::SIZE,
    );
    let mut view = ModifyNicVportContextIn::new(&mut modify);
    view.field_select_mut()
        .set_disable_uc_local_lb(true)
        .set_disable_mc_local_lb(true);
    view.nic_vport_context_mut()
        .set_disable_uc_local_lb(true)
        .set_disable_mc_local_lb(true);
    newer.ok(&modify);

    // A queue of one entry that nothing is posted to, RQTs that lead there, TIRs for frames and for what is in tunnels.
    let drop_cq = newer.cq(0);
    let drop_rq = newer.rq(drop_cq, 0, 0);
    let rqtn = newer.rqt(drop_rq, 128);
    let channels = [newer.rqt(drop_rq, 1), newer.rqt(drop_rq, 1)];
    let mut tirs = [0; 2];
    for (inner, last) in [false, true].into_iter().zip(&mut tirs) {
        for (l4, fields) in [
            (false, IP_PORTS),
            (true, IP_PORTS),
            (false, IP_SPI),
            (false, IP),
        ] {
            for l3 in [false, true] {
                *last = newer.tir(rqtn, l3, l4, fields, inner);
            }
        }
        // Any: hashed over nothing.
        *last = newer.tir(rqtn, false, false, 0, inner);
    }

    // mlx5_fs_tcp.c in the namespace of offloads, then the kernel's, with levels that leave room for ipsec.
    let tcp4 = newer.table(68, 16);
    newer.group(tcp4, 0, 0xfffe, OUTER, connection);
    let tcp4_rest = newer.group(tcp4, 0xffff, 0xffff, 0, nothing);
    let vlan = newer.table(104, 13);
    newer.group(vlan, 0, 0xfff, OUTER, vid);
    let untagged = newer.group(vlan, 0x1000, 0x1001, OUTER, tagged);
    let vxlans = newer.table(105, 4);
    let ports = newer.group(vxlans, 0, 7, OUTER, udp_port);
    let no_port = newer.group(vxlans, 8, 8, 0, nothing);
    let inside = newer.table(106, 15);
    let inside_tcp = newer.group(inside, 0, 7, INNER, inner_protocol);
    let inside_any = newer.group(inside, 16, 16, 0, nothing);
    let main = newer.table(108, 15);
    let main_any = newer.group(main, 0, 0, 0, nothing);
    newer.rule(tcp4, tcp4_rest, 0xffff, (1, vlan), nothing);
    newer.rule(vlan, untagged, 0x1000, (1, vxlans), nothing);
    newer.rule(vxlans, no_port, 8, (1, main), nothing);
    newer.rule(main, main_any, 0, (2, tirs[0]), nothing);

    // A vxlan interface; another with the same port.
    let mut add = input(Opcode::AddVxlanUdpDport, 0, VxlanUdpDportIn::SIZE);
    VxlanUdpDportIn::new(&mut add).set_vxlan_udp_port(4789);
    newer.ok(&add);
    newer.ok(&add);
    newer.rule(vxlans, ports, 0, (1, inside), vxlan);
    newer.rule(inside, inside_tcp, 0, (2, tirs[1]), inner_tcp);
    newer.rule(inside, inside_any, 16, (2, tirs[1]), nothing);

    // Opening: channels with a queue for internal operations each, then the RQTs lead to them.
    let attached = newer.made.len();
    let mut create = input(Opcode::CreateTis, 0, CreateTisIn::SIZE);
    let td = newer.number(Object::TransportDomain, 1);
    CreateTisIn::new(&mut create)
        .tisc_mut()
        .set_transport_domain(td);
    let tisn = CreateTisOut::new(&newer.ok(&create)).tisn();
    newer.destroys(Opcode::DestroyTis, tisn);
    let counters = newer.ok(&input(Opcode::AllocQCounter, 0, 16));
    let counters = AllocQCounterOut::new(&counters).counter_set_id();
    newer.destroys(Opcode::DeallocQCounter, counters.into());
    let mut rqns = Vec::new();
    let mut sqns = Vec::new();
    for _ in 0..2 {
        for _ in 0..2 {
            let cqn = newer.cq(10);
            sqns.push(newer.sq(cqn, tisn));
        }
        let cqn = newer.cq(10);
        rqns.push(newer.rq(cqn, 10, counters));
    }
    let spread: Vec<u32> = rqns.iter().copied().cycle().take(128).collect();
    newer.modify_rqt(rqtn, &spread);
    for (channel, rqn) in channels.into_iter().zip(&rqns) {
        newer.modify_rqt(channel, &[*rqn]);
    }
    // sysctls that stop and start DMA.
    for sqn in sqns {
        newer.modify_sq(sqn, READY, ERROR);
        newer.modify_sq(sqn, ERROR, RESET);
        newer.modify_sq(sqn, RESET, READY);
    }
    newer.modify_rq(rqns[0], READY, ERROR);
    newer.modify_rq(rqns[0], ERROR, RESET);
    newer.modify_rq(rqns[0], RESET, READY);

    // Closing leaves what attaching made.
    newer.modify_rqt(rqtn, &[drop_rq; 128]);
    for channel in channels {
        newer.modify_rqt(channel, &[drop_rq]);
    }
    for destroy in newer.made.split_off(attached).into_iter().rev() {
        newer.ok(&destroy);
    }
    let mut delete = input(Opcode::DeleteVxlanUdpDport, 0, VxlanUdpDportIn::SIZE);
    VxlanUdpDportIn::new(&mut delete).set_vxlan_udp_port(4789);
    newer.ok(&delete);
    newer.ok(&delete);
    assert!(newer.session.execute(SLOT, &delete, 16).is_err());
    for destroy in std::mem::take(&mut newer.made).into_iter().rev() {
        newer.ok(&destroy);
    }
    let mut leaving = super::vectors("detach.txt");
    leaving.retain(|record| record.name != "QUERY_NIC_VPORT_CONTEXT");
    newer.session.commands(&leaving).expect("detached");
    super::assert_clean(&newer.session);
}
