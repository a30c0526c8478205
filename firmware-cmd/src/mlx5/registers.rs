//! Access registers, the payload of ACCESS_REG.

pub mod counters;
pub mod management;
pub mod port;
pub mod qos;

use counters::{Mpcnt, Ppcnt};
use management::{
    Dtor, HostEndianness, Mcam, Mcia, Mcqi, Mcqs, Mfrl, Mlcr, Mnvda, Mtcap, Mtmp, NodeDesc,
};
use port::{Paos, Pbmc, Pcam, Pcap, Pcmr, Pddr, Pfcc, Pmlp, Pmtu, Pplm, Pptb, Ptys};
use qos::{DcbxParam, Qcam, Qetcr, Qpdp, Qpdpm, Qpts, Qtct, Sbcam, Sbcm, Sbpr};

use crate::layout::Layout;

macro_rules! registers {
    ($($id:literal $Name:ident $name:literal;)*) => {
        /// A register that has a layout here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Register {
            $(#[doc = concat!("[`", $name, "`](", stringify!($Name), ")")] $Name = $id,)*
        }

        impl Register {
            /// All of them, by number.
            pub const ALL: &'static [Register] = &[$(Register::$Name),*];

            /// The register of that id.
            #[must_use]
            pub const fn from_u16(id: u16) -> Option<Register> {
                match id {
                    $($id => Some(Register::$Name),)*
                    _ => None,
                }
            }

            /// As in the manuals.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Register::$Name => $name,)*
                }
            }

            /// What is in `register_data`.
            #[must_use]
            pub const fn layout(self) -> &'static Layout {
                match self {
                    $(Register::$Name => $Name::LAYOUT,)*
                }
            }
        }
    };
}

registers! {
    0x4002 Qpts "QPTS";
    0x4005 Qetcr "QETCR";
    0x4007 Qpdp "QPDP";
    0x400a Qtct "QTCT";
    0x4013 Qpdpm "QPDPM";
    0x4019 Qcam "QCAM";
    0x4020 DcbxParam "DCBX_PARAM";
    0x5001 Pcap "PCAP";
    0x5002 Pmlp "PMLP";
    0x5003 Pmtu "PMTU";
    0x5004 Ptys "PTYS";
    0x5006 Paos "PAOS";
    0x5007 Pfcc "PFCC";
    0x5008 Ppcnt "PPCNT";
    0x500b Pptb "PPTB";
    0x500c Pbmc "PBMC";
    0x5023 Pplm "PPLM";
    0x5031 Pddr "PDDR";
    0x5041 Pcmr "PCMR";
    0x507f Pcam "PCAM";
    0x6001 NodeDesc "NODE_DESC";
    0x7004 HostEndianness "HOST_ENDIANNESS";
    0x9009 Mtcap "MTCAP";
    0x900a Mtmp "MTMP";
    0x9014 Mcia "MCIA";
    0x9024 Mnvda "MNVDA";
    0x9028 Mfrl "MFRL";
    0x902b Mlcr "MLCR";
    0x9051 Mpcnt "MPCNT";
    0x9060 Mcqs "MCQS";
    0x9061 Mcqi "MCQI";
    0x907f Mcam "MCAM";
    0xb001 Sbpr "SBPR";
    0xb002 Sbcm "SBCM";
    0xb01f Sbcam "SBCAM";
    0xc00e Dtor "DTOR";
}

impl Register {
    /// The number.
    #[must_use]
    pub const fn id(self) -> u16 {
        self as u16
    }
}

impl std::fmt::Display for Register {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
