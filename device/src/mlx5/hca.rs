//! The HCA as a whole: its state, its capabilities, the pages it was lent.
//!
//! Knows which commands are legal in which state; knows nothing of the objects themselves.

use rocinante_firmware_cmd::mlx5::caps::HcaCaps;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;

use super::fault::{Override, Timeouts};
use super::leak::Findings;
use super::pages::Pages;

/// State of the HCA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Power-on, or after DISABLE_HCA.
    #[default]
    Disabled,
    /// After ENABLE_HCA, and again after a graceful teardown.
    Enabled,
    /// After INIT_HCA: objects can exist.
    Initialized,
    /// After a force or fast teardown: nothing but a reset helps.
    Stopped,
}

/// What firmware says that is not so because somebody wants it.
#[derive(Clone, Debug, Default)]
pub struct HcaFaults {
    /// Capabilities.
    pub overrides: Vec<Override>,
    /// Timeouts of register DTOR.
    pub timeouts: Timeouts,
    /// Pages that are not given back.
    pub keep_pages: Option<u32>,
}

/// The HCA.
#[derive(Debug)]
pub struct Hca {
    /// Where in its life it is.
    pub state: State,
    /// Capabilities.
    pub caps: HcaCaps,
    /// Interface step sequence ID in use.
    pub issi: u16,
    /// Pages lent by the driver.
    pub pages: Pages,
    /// What was left at the last goodbye.
    pub findings: Option<Findings>,
    /// Commands that were refused.
    pub refused_commands: u32,
    /// What SET_DRIVER_VERSION said.
    pub driver_version: Option<String>,
    /// What is wrong on purpose.
    pub faults: HcaFaults,
}

impl Hca {
    /// At power-on.
    pub fn new(manages_port: bool) -> Hca {
        let mut caps = HcaCaps::connectx5();
        caps.set_manages_port(manages_port);
        Hca {
            state: State::Disabled,
            caps,
            issi: 0,
            pages: Pages::default(),
            findings: None,
            refused_commands: 0,
            driver_version: None,
            faults: HcaFaults::default(),
        }
    }

    /// Whether a command is legal now.
    pub fn admits(&self, opcode: Opcode) -> bool {
        use Opcode as O;
        match self.state {
            State::Disabled => matches!(opcode, O::EnableHca | O::DisableHca | O::Nop),
            State::Enabled => matches!(
                opcode,
                O::EnableHca
                    | O::DisableHca
                    | O::QueryIssi
                    | O::SetIssi
                    | O::QueryPages
                    | O::ManagePages
                    | O::QueryHcaCap
                    | O::SetHcaCap
                    | O::QueryAdapter
                    | O::InitHca
                    | O::SetDriverVersion
                    | O::AccessReg
                    | O::Nop
            ),
            State::Initialized => !matches!(opcode, O::InitHca | O::SetHcaCap | O::SetIssi),
            State::Stopped => false,
        }
    }
}
