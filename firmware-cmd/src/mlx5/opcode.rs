//! Command opcodes: every one that a FreeBSD 12.1, Linux 6.1, Linux 6.12 or rdma-core header declares, and for those
//! a driver issues against this device's capabilities the layouts and the shortest input.

use super::command::{AccessRegisterIn, AccessRegisterOut, Input, Output};
use super::cq::{CreateCqIn, CreateCqOut, DestroyCqIn, ModifyCqIn, QueryCqIn, QueryCqOut};
use super::eq::{CreateEqIn, CreateEqOut, DestroyEqIn, QueryEqIn, QueryEqOut};
use super::eth::{
    CreateRqtIn, CreateRqtOut, CreateTirIn, CreateTirOut, CreateTisIn, CreateTisOut, DestroyRqtIn,
    DestroyTirIn, DestroyTisIn, ModifyRqtIn, ModifyTirIn, ModifyTisIn, QueryTisIn, QueryTisOut,
    VxlanUdpDportIn,
};
use super::flow::{
    AllocFlowCounterIn, AllocFlowCounterOut, CreateFlowGroupIn, CreateFlowGroupOut,
    CreateFlowTableIn, CreateFlowTableOut, DeallocFlowCounterIn, DeleteFlowTableEntryIn,
    DestroyFlowGroupIn, DestroyFlowTableIn, ModifyFlowTableIn, QueryFlowCounterIn,
    QueryFlowCounterOut, SetFlowTableEntryIn, SetFlowTableRootIn,
};
use super::hca::{
    DisableHcaIn, EnableHcaIn, InitHcaIn, ManagePagesIn, ManagePagesOut, QueryAdapterOut,
    QueryHcaCapIn, QueryHcaCapOut, QueryIssiOut, QueryPagesIn, QueryPagesOut,
    QuerySpecialContextsOut, SetDriverVersionIn, SetHcaCapIn, SetIssiIn, TeardownHcaIn,
    TeardownHcaOut,
};
use super::mkey::{CreateMkeyIn, CreateMkeyOut, DestroyMkeyIn, QueryMkeyIn, QueryMkeyOut};
use super::qp::{
    CreateQpIn, CreateQpOut, DestroyQpIn, ModifyQpIn, Qp2ErrIn, Qp2RstIn, QueryQpIn, QueryQpOut,
};
use super::resources::{
    AllocPdOut, AllocQCounterOut, AllocTransportDomainOut, AllocUarOut, AllocXrcdOut, DeallocPdIn,
    DeallocQCounterIn, DeallocTransportDomainIn, DeallocUarIn, DeallocXrcdIn, QueryCongParamsIn,
    QueryCongParamsOut, QueryCongStatisticsIn, QueryCongStatisticsOut, QueryQCounterIn,
    QueryQCounterOut,
};
use super::srq::{
    ArmRqIn, ArmXrcSrqIn, CreateSrqIn, CreateSrqOut, CreateXrcSrqIn, CreateXrcSrqOut, DestroySrqIn,
    DestroyXrcSrqIn, QuerySrqIn, QuerySrqOut, QueryXrcSrqIn, QueryXrcSrqOut,
};
use super::vport::{
    AttachToMcgIn, DeleteL2TableEntryIn, DetachFromMcgIn, ModifyNicVportContextIn,
    ModifyVportStateIn, QueryHcaVportContextIn, QueryHcaVportPkeyIn, QueryHcaVportPkeyOut,
    QueryL2TableEntryIn, QueryL2TableEntryOut, QueryNicVportContextIn, QueryNicVportContextOut,
    QueryRoceAddressIn, QueryRoceAddressOut, QueryVnicEnvIn, QueryVnicEnvOut, QueryVportCounterIn,
    QueryVportCounterOut, QueryVportStateIn, QueryVportStateOut, SetL2TableEntryIn,
    SetRoceAddressIn,
};
use super::wq::{
    CreateRmpIn, CreateRmpOut, CreateRqIn, CreateRqOut, CreateSqIn, CreateSqOut, DestroyRmpIn,
    DestroyRqIn, DestroySqIn, ModifyRmpIn, ModifyRqIn, ModifySqIn, QueryRmpIn, QueryRmpOut,
    QueryRqIn, QueryRqOut, QuerySqIn, QuerySqOut,
};
use crate::layout::Layout;

/// How a command is laid out.
#[derive(Debug)]
pub struct Command {
    /// Shortest input, in bytes: the smallest structure any of the drivers has for it. What a shorter one than
    /// `input.size` leaves out is zero.
    pub min_input_len: usize,
    /// Input.
    pub input: &'static Layout,
    /// Output.
    pub output: &'static Layout,
}

macro_rules! opcodes {
    ($($code:literal $Variant:ident $name:literal $(: $In:ident $min:literal => $Out:ident)?;)*) => {
        /// A command opcode.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Opcode {
            $(#[doc = concat!("`", $name, "`")] $Variant = $code,)*
        }

        impl Opcode {
            /// All of them, by number.
            pub const ALL: &'static [Opcode] = &[$(Opcode::$Variant),*];

            /// The opcode of that number.
            #[must_use]
            pub const fn from_u16(code: u16) -> Option<Opcode> {
                match code {
                    $($code => Some(Opcode::$Variant),)*
                    _ => None,
                }
            }

            /// As in `mlx5_ifc.h`, without the prefix.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Opcode::$Variant => $name,)*
                }
            }

            /// Layouts, for those declared here; the others are refused with BAD_OP.
            #[must_use]
            pub const fn command(self) -> Option<&'static Command> {
                match self {
                    $($(Opcode::$Variant => Some(&Command {
                        min_input_len: $min,
                        input: $In::LAYOUT,
                        output: $Out::LAYOUT,
                    }),)?)*
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    0x001 ModUpdateHeaderModifyArgument "MOD_UPDATE_HEADER_MODIFY_ARGUMENT";
    0x100 QueryHcaCap "QUERY_HCA_CAP": QueryHcaCapIn 0x10 => QueryHcaCapOut;
    0x101 QueryAdapter "QUERY_ADAPTER": Input 0x10 => QueryAdapterOut;
    0x102 InitHca "INIT_HCA": InitHcaIn 0x10 => Output;
    0x103 TeardownHca "TEARDOWN_HCA": TeardownHcaIn 0x10 => TeardownHcaOut;
    0x104 EnableHca "ENABLE_HCA": EnableHcaIn 0x10 => Output;
    0x105 DisableHca "DISABLE_HCA": DisableHcaIn 0x10 => Output;
    0x107 QueryPages "QUERY_PAGES": QueryPagesIn 0x10 => QueryPagesOut;
    0x108 ManagePages "MANAGE_PAGES": ManagePagesIn 0x10 => ManagePagesOut;
    0x109 SetHcaCap "SET_HCA_CAP": SetHcaCapIn 0x1010 => Output;
    0x10a QueryIssi "QUERY_ISSI": Input 0x10 => QueryIssiOut;
    0x10b SetIssi "SET_ISSI": SetIssiIn 0x10 => Output;
    0x10d SetDriverVersion "SET_DRIVER_VERSION": SetDriverVersionIn 0x50 => Output;
    0x10e QueryOtherHcaCap "QUERY_OTHER_HCA_CAP";
    0x10f ModifyOtherHcaCap "MODIFY_OTHER_HCA_CAP";
    0x111 QuerySfPartition "QUERY_SF_PARTITION";
    0x113 AllocSf "ALLOC_SF";
    0x114 DeallocSf "DEALLOC_SF";
    0x115 SuspendVhca "SUSPEND_VHCA";
    0x116 ResumeVhca "RESUME_VHCA";
    0x117 QueryVhcaMigrationState "QUERY_VHCA_MIGRATION_STATE";
    0x118 SaveVhcaState "SAVE_VHCA_STATE";
    0x119 LoadVhcaState "LOAD_VHCA_STATE";
    0x200 CreateMkey "CREATE_MKEY": CreateMkeyIn 0x110 => CreateMkeyOut;
    0x201 QueryMkey "QUERY_MKEY": QueryMkeyIn 0x10 => QueryMkeyOut;
    0x202 DestroyMkey "DESTROY_MKEY": DestroyMkeyIn 0x10 => Output;
    0x203 QuerySpecialContexts "QUERY_SPECIAL_CONTEXTS": Input 0x10 => QuerySpecialContextsOut;
    0x204 PageFaultResume "PAGE_FAULT_RESUME";
    0x205 AllocMemic "ALLOC_MEMIC";
    0x206 DeallocMemic "DEALLOC_MEMIC";
    0x207 ModifyMemic "MODIFY_MEMIC";
    0x301 CreateEq "CREATE_EQ": CreateEqIn 0x110 => CreateEqOut;
    0x302 DestroyEq "DESTROY_EQ": DestroyEqIn 0x10 => Output;
    0x303 QueryEq "QUERY_EQ": QueryEqIn 0x10 => QueryEqOut;
    0x304 GenEqe "GEN_EQE";
    0x400 CreateCq "CREATE_CQ": CreateCqIn 0x110 => CreateCqOut;
    0x401 DestroyCq "DESTROY_CQ": DestroyCqIn 0x10 => Output;
    0x402 QueryCq "QUERY_CQ": QueryCqIn 0x10 => QueryCqOut;
    0x403 ModifyCq "MODIFY_CQ": ModifyCqIn 0x110 => Output;
    0x500 CreateQp "CREATE_QP": CreateQpIn 0x110 => CreateQpOut;
    0x501 DestroyQp "DESTROY_QP": DestroyQpIn 0x10 => Output;
    0x502 Rst2initQp "RST2INIT_QP": ModifyQpIn 0x110 => Output;
    0x503 Init2rtrQp "INIT2RTR_QP": ModifyQpIn 0x110 => Output;
    0x504 Rtr2rtsQp "RTR2RTS_QP": ModifyQpIn 0x110 => Output;
    0x505 Rts2rtsQp "RTS2RTS_QP": ModifyQpIn 0x110 => Output;
    0x506 Sqerr2rtsQp "SQERR2RTS_QP": ModifyQpIn 0x110 => Output;
    0x507 Qp2Err "2ERR_QP": Qp2ErrIn 0x10 => Output;
    0x50a Qp2Rst "2RST_QP": Qp2RstIn 0x10 => Output;
    0x50b QueryQp "QUERY_QP": QueryQpIn 0x10 => QueryQpOut;
    0x50c SqdRtsQp "SQD_RTS_QP": ModifyQpIn 0x110 => Output;
    0x50d MadIfc "MAD_IFC";
    0x50e Init2initQp "INIT2INIT_QP": ModifyQpIn 0x110 => Output;
    0x600 CreatePsv "CREATE_PSV";
    0x601 DestroyPsv "DESTROY_PSV";
    0x700 CreateSrq "CREATE_SRQ": CreateSrqIn 0x110 => CreateSrqOut;
    0x701 DestroySrq "DESTROY_SRQ": DestroySrqIn 0x10 => Output;
    0x702 QuerySrq "QUERY_SRQ": QuerySrqIn 0x10 => QuerySrqOut;
    0x703 ArmRq "ARM_RQ": ArmRqIn 0x10 => Output;
    0x705 CreateXrcSrq "CREATE_XRC_SRQ": CreateXrcSrqIn 0x110 => CreateXrcSrqOut;
    0x706 DestroyXrcSrq "DESTROY_XRC_SRQ": DestroyXrcSrqIn 0x10 => Output;
    0x707 QueryXrcSrq "QUERY_XRC_SRQ": QueryXrcSrqIn 0x10 => QueryXrcSrqOut;
    0x708 ArmXrcSrq "ARM_XRC_SRQ": ArmXrcSrqIn 0x10 => Output;
    0x710 CreateDct "CREATE_DCT";
    0x711 DestroyDct "DESTROY_DCT";
    0x712 DrainDct "DRAIN_DCT";
    0x713 QueryDct "QUERY_DCT";
    0x714 ArmDctForKeyViolation "ARM_DCT_FOR_KEY_VIOLATION";
    0x715 SetDcCnakTrace "SET_DC_CNAK_TRACE";
    0x716 QueryDcCnakTrace "QUERY_DC_CNAK_TRACE";
    0x717 CreateXrq "CREATE_XRQ";
    0x718 DestroyXrq "DESTROY_XRQ";
    0x719 QueryXrq "QUERY_XRQ";
    0x71a ArmXrq "ARM_XRQ";
    0x725 QueryXrqDcParamsEntry "QUERY_XRQ_DC_PARAMS_ENTRY";
    0x726 SetXrqDcParamsEntry "SET_XRQ_DC_PARAMS_ENTRY";
    0x727 QueryXrqErrorParams "QUERY_XRQ_ERROR_PARAMS";
    0x729 ReleaseXrqError "RELEASE_XRQ_ERROR";
    0x72a ModifyXrq "MODIFY_XRQ";
    0x740 QueryEswFunctions "QUERY_ESW_FUNCTIONS";
    0x750 QueryVportState "QUERY_VPORT_STATE": QueryVportStateIn 0x10 => QueryVportStateOut;
    0x751 ModifyVportState "MODIFY_VPORT_STATE": ModifyVportStateIn 0x10 => Output;
    0x752 QueryEswVportContext "QUERY_ESW_VPORT_CONTEXT";
    0x753 ModifyEswVportContext "MODIFY_ESW_VPORT_CONTEXT";
    0x754 QueryNicVportContext "QUERY_NIC_VPORT_CONTEXT": QueryNicVportContextIn 0x10 => QueryNicVportContextOut;
    0x755 ModifyNicVportContext "MODIFY_NIC_VPORT_CONTEXT": ModifyNicVportContextIn 0x200 => Output;
    0x760 QueryRoceAddress "QUERY_ROCE_ADDRESS": QueryRoceAddressIn 0x10 => QueryRoceAddressOut;
    0x761 SetRoceAddress "SET_ROCE_ADDRESS": SetRoceAddressIn 0x30 => Output;
    0x762 QueryHcaVportContext "QUERY_HCA_VPORT_CONTEXT": QueryHcaVportContextIn 0x10 => Output;
    0x763 ModifyHcaVportContext "MODIFY_HCA_VPORT_CONTEXT";
    0x764 QueryHcaVportGid "QUERY_HCA_VPORT_GID";
    0x765 QueryHcaVportPkey "QUERY_HCA_VPORT_PKEY": QueryHcaVportPkeyIn 0x10 => QueryHcaVportPkeyOut;
    0x76f QueryVnicEnv "QUERY_VNIC_ENV": QueryVnicEnvIn 0x10 => QueryVnicEnvOut;
    0x770 QueryVportCounter "QUERY_VPORT_COUNTER": QueryVportCounterIn 0x20 => QueryVportCounterOut;
    0x771 AllocQCounter "ALLOC_Q_COUNTER": Input 0x10 => AllocQCounterOut;
    0x772 DeallocQCounter "DEALLOC_Q_COUNTER": DeallocQCounterIn 0x10 => Output;
    0x773 QueryQCounter "QUERY_Q_COUNTER": QueryQCounterIn 0x20 => QueryQCounterOut;
    0x774 SetMonitorCounter "SET_MONITOR_COUNTER";
    0x775 ArmMonitorCounter "ARM_MONITOR_COUNTER";
    0x780 SetPpRateLimit "SET_PP_RATE_LIMIT";
    0x781 QueryRateLimit "QUERY_RATE_LIMIT";
    0x782 CreateSchedulingElement "CREATE_SCHEDULING_ELEMENT";
    0x783 DestroySchedulingElement "DESTROY_SCHEDULING_ELEMENT";
    0x784 QuerySchedulingElement "QUERY_SCHEDULING_ELEMENT";
    0x785 ModifySchedulingElement "MODIFY_SCHEDULING_ELEMENT";
    0x786 CreateQosParaVport "CREATE_QOS_PARA_VPORT";
    0x787 DestroyQosParaVport "DESTROY_QOS_PARA_VPORT";
    0x800 AllocPd "ALLOC_PD": Input 0x10 => AllocPdOut;
    0x801 DeallocPd "DEALLOC_PD": DeallocPdIn 0x10 => Output;
    0x802 AllocUar "ALLOC_UAR": Input 0x10 => AllocUarOut;
    0x803 DeallocUar "DEALLOC_UAR": DeallocUarIn 0x10 => Output;
    0x804 ConfigIntModeration "CONFIG_INT_MODERATION";
    0x805 AccessReg "ACCESS_REG": AccessRegisterIn 0x10 => AccessRegisterOut;
    0x806 AttachToMcg "ATTACH_TO_MCG": AttachToMcgIn 0x20 => Output;
    0x807 DetachFromMcg "DETACH_FROM_MCG": DetachFromMcgIn 0x20 => Output;
    0x80a GetDroppedPacketLog "GET_DROPPED_PACKET_LOG";
    0x80b QueryMadDemux "QUERY_MAD_DEMUX";
    0x80c SetMadDemux "SET_MAD_DEMUX";
    0x80d Nop "NOP": Input 0x10 => Output;
    0x80e AllocXrcd "ALLOC_XRCD": Input 0x10 => AllocXrcdOut;
    0x80f DeallocXrcd "DEALLOC_XRCD": DeallocXrcdIn 0x10 => Output;
    0x812 SetBurstSize "SET_BURST_SIZE";
    0x813 QueryBurstSize "QUERY_BURST_SIZE";
    0x814 ActivateTracer "ACTIVATE_TRACER";
    0x815 DeactivateTracer "DEACTIVATE_TRACER";
    0x816 AllocTransportDomain "ALLOC_TRANSPORT_DOMAIN": Input 0x10 => AllocTransportDomainOut;
    0x817 DeallocTransportDomain "DEALLOC_TRANSPORT_DOMAIN": DeallocTransportDomainIn 0x10 => Output;
    0x820 SetDiagnostics "SET_DIAGNOSTICS";
    0x821 QueryDiagnostics "QUERY_DIAGNOSTICS";
    0x822 QueryCongStatus "QUERY_CONG_STATUS";
    0x823 ModifyCongStatus "MODIFY_CONG_STATUS";
    0x824 QueryCongParams "QUERY_CONG_PARAMS": QueryCongParamsIn 0x10 => QueryCongParamsOut;
    0x825 ModifyCongParams "MODIFY_CONG_PARAMS";
    0x826 QueryCongStatistics "QUERY_CONG_STATISTICS": QueryCongStatisticsIn 0x10 => QueryCongStatisticsOut;
    0x827 AddVxlanUdpDport "ADD_VXLAN_UDP_DPORT": VxlanUdpDportIn 0x10 => Output;
    0x828 DeleteVxlanUdpDport "DELETE_VXLAN_UDP_DPORT": VxlanUdpDportIn 0x10 => Output;
    0x829 SetL2TableEntry "SET_L2_TABLE_ENTRY": SetL2TableEntryIn 0x40 => Output;
    0x82a QueryL2TableEntry "QUERY_L2_TABLE_ENTRY": QueryL2TableEntryIn 0x40 => QueryL2TableEntryOut;
    0x82b DeleteL2TableEntry "DELETE_L2_TABLE_ENTRY": DeleteL2TableEntryIn 0x40 => Output;
    0x830 SetWolRol "SET_WOL_ROL";
    0x831 QueryWolRol "QUERY_WOL_ROL";
    0x840 CreateLag "CREATE_LAG";
    0x841 ModifyLag "MODIFY_LAG";
    0x842 QueryLag "QUERY_LAG";
    0x843 DestroyLag "DESTROY_LAG";
    0x844 CreateVportLag "CREATE_VPORT_LAG";
    0x845 DestroyVportLag "DESTROY_VPORT_LAG";
    0x900 CreateTir "CREATE_TIR": CreateTirIn 0x110 => CreateTirOut;
    0x901 ModifyTir "MODIFY_TIR": ModifyTirIn 0x110 => Output;
    0x902 DestroyTir "DESTROY_TIR": DestroyTirIn 0x10 => Output;
    0x903 QueryTir "QUERY_TIR";
    0x904 CreateSq "CREATE_SQ": CreateSqIn 0x110 => CreateSqOut;
    0x905 ModifySq "MODIFY_SQ": ModifySqIn 0x110 => Output;
    0x906 DestroySq "DESTROY_SQ": DestroySqIn 0x10 => Output;
    0x907 QuerySq "QUERY_SQ": QuerySqIn 0x10 => QuerySqOut;
    0x908 CreateRq "CREATE_RQ": CreateRqIn 0x110 => CreateRqOut;
    0x909 ModifyRq "MODIFY_RQ": ModifyRqIn 0x110 => Output;
    0x90a DestroyRq "DESTROY_RQ": DestroyRqIn 0x10 => Output;
    0x90b QueryRq "QUERY_RQ": QueryRqIn 0x10 => QueryRqOut;
    0x90c CreateRmp "CREATE_RMP": CreateRmpIn 0x110 => CreateRmpOut;
    0x90d ModifyRmp "MODIFY_RMP": ModifyRmpIn 0x110 => Output;
    0x90e DestroyRmp "DESTROY_RMP": DestroyRmpIn 0x10 => Output;
    0x90f QueryRmp "QUERY_RMP": QueryRmpIn 0x10 => QueryRmpOut;
    0x910 SetDelayDropParams "SET_DELAY_DROP_PARAMS";
    0x911 QueryDelayDropParams "QUERY_DELAY_DROP_PARAMS";
    0x912 CreateTis "CREATE_TIS": CreateTisIn 0xc0 => CreateTisOut;
    0x913 ModifyTis "MODIFY_TIS": ModifyTisIn 0xc0 => Output;
    0x914 DestroyTis "DESTROY_TIS": DestroyTisIn 0x10 => Output;
    0x915 QueryTis "QUERY_TIS": QueryTisIn 0x10 => QueryTisOut;
    0x916 CreateRqt "CREATE_RQT": CreateRqtIn 0x110 => CreateRqtOut;
    0x917 ModifyRqt "MODIFY_RQT": ModifyRqtIn 0x110 => Output;
    0x918 DestroyRqt "DESTROY_RQT": DestroyRqtIn 0x10 => Output;
    0x919 QueryRqt "QUERY_RQT";
    0x92f SetFlowTableRoot "SET_FLOW_TABLE_ROOT": SetFlowTableRootIn 0x40 => Output;
    0x930 CreateFlowTable "CREATE_FLOW_TABLE": CreateFlowTableIn 0x40 => CreateFlowTableOut;
    0x931 DestroyFlowTable "DESTROY_FLOW_TABLE": DestroyFlowTableIn 0x40 => Output;
    0x932 QueryFlowTable "QUERY_FLOW_TABLE";
    0x933 CreateFlowGroup "CREATE_FLOW_GROUP": CreateFlowGroupIn 0x400 => CreateFlowGroupOut;
    0x934 DestroyFlowGroup "DESTROY_FLOW_GROUP": DestroyFlowGroupIn 0x40 => Output;
    0x935 QueryFlowGroup "QUERY_FLOW_GROUP";
    0x936 SetFlowTableEntry "SET_FLOW_TABLE_ENTRY": SetFlowTableEntryIn 0x340 => Output;
    0x937 QueryFlowTableEntry "QUERY_FLOW_TABLE_ENTRY";
    0x938 DeleteFlowTableEntry "DELETE_FLOW_TABLE_ENTRY": DeleteFlowTableEntryIn 0x40 => Output;
    0x939 AllocFlowCounter "ALLOC_FLOW_COUNTER": AllocFlowCounterIn 0x10 => AllocFlowCounterOut;
    0x93a DeallocFlowCounter "DEALLOC_FLOW_COUNTER": DeallocFlowCounterIn 0x10 => Output;
    0x93b QueryFlowCounter "QUERY_FLOW_COUNTER": QueryFlowCounterIn 0x20 => QueryFlowCounterOut;
    0x93c ModifyFlowTable "MODIFY_FLOW_TABLE": ModifyFlowTableIn 0x40 => Output;
    0x93d AllocPacketReformatContext "ALLOC_PACKET_REFORMAT_CONTEXT";
    0x93e DeallocPacketReformatContext "DEALLOC_PACKET_REFORMAT_CONTEXT";
    0x93f QueryPacketReformatContext "QUERY_PACKET_REFORMAT_CONTEXT";
    0x940 AllocModifyHeaderContext "ALLOC_MODIFY_HEADER_CONTEXT";
    0x941 DeallocModifyHeaderContext "DEALLOC_MODIFY_HEADER_CONTEXT";
    0x942 QueryModifyHeaderContext "QUERY_MODIFY_HEADER_CONTEXT";
    0x960 FpgaCreateQp "FPGA_CREATE_QP";
    0x961 FpgaModifyQp "FPGA_MODIFY_QP";
    0x962 FpgaQueryQp "FPGA_QUERY_QP";
    0x963 FpgaDestroyQp "FPGA_DESTROY_QP";
    0x964 FpgaQueryQpCounters "FPGA_QUERY_QP_COUNTERS";
    0xa00 CreateGeneralObject "CREATE_GENERAL_OBJECT";
    0xa01 ModifyGeneralObject "MODIFY_GENERAL_OBJECT";
    0xa02 QueryGeneralObject "QUERY_GENERAL_OBJECT";
    0xa03 DestroyGeneralObject "DESTROY_GENERAL_OBJECT";
    0xa04 CreateUctx "CREATE_UCTX";
    0xa06 DestroyUctx "DESTROY_UCTX";
    0xa08 CreateUmem "CREATE_UMEM";
    0xa0a DestroyUmem "DESTROY_UMEM";
    0xb00 SyncSteering "SYNC_STEERING";
    0xb0d QueryVhcaState "QUERY_VHCA_STATE";
    0xb0e ModifyVhcaState "MODIFY_VHCA_STATE";
    0xb12 SyncCrypto "SYNC_CRYPTO";
    0xb16 AllowOtherVhcaAccess "ALLOW_OTHER_VHCA_ACCESS";
    0xb17 GenerateWqe "GENERATE_WQE";
}

impl Opcode {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl std::fmt::Display for Opcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for &opcode in Opcode::ALL {
            assert_eq!(Opcode::from_u16(opcode.code()), Some(opcode));
        }
        assert_eq!(Opcode::from_u16(0x106), None);
        assert_eq!(Opcode::CreateCq.code(), 0x400);
        assert_eq!(Opcode::Qp2Err.name(), "2ERR_QP");
    }

    /// 11-opcode-matrix has 91 opcodes that drivers issue; some that cost nothing are declared beyond them.
    #[test]
    fn declared_commands_have_headers() {
        let declared: Vec<_> = Opcode::ALL
            .iter()
            .filter_map(|opcode| opcode.command())
            .collect();
        assert!(declared.len() >= 91, "{}", declared.len());
        for command in declared {
            assert!(command.min_input_len >= 0x10, "{}", command.input.name);
            assert!(
                command.min_input_len <= command.input.size,
                "{}",
                command.input.name
            );
            let opcode = command
                .input
                .field("opcode")
                .expect("every input starts with an opcode");
            assert_eq!((opcode.bit_offset, opcode.bits), (0, 16));
            let syndrome = command
                .output
                .field("syndrome")
                .expect("every output has a syndrome");
            assert_eq!((syndrome.bit_offset, syndrome.bits), (32, 32));
        }
    }
}
