//! What can go wrong between a driver and its device.

use rocinante_dma::DmaError;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::status::Status;
use rocinante_pci::client::ClientError;

/// A driver's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device refused a command.
    #[error("{opcode}: {status:?}, syndrome {syndrome:#010x}")]
    Refused {
        /// Which.
        opcode: Opcode,
        /// Status, `None` for a number without name.
        status: Option<Status>,
        /// Syndrome.
        syndrome: u32,
    },
    /// The device did not take a queue entry as it was.
    #[error("{opcode}: delivery status {status:#x}")]
    Delivery {
        /// Which command.
        opcode: Opcode,
        /// `DeliveryStatus` as a number.
        status: u8,
    },
    /// A command was not completed in time.
    #[error("{0}: no answer")]
    Timeout(Opcode),
    /// A completed entry is not signed as it should be.
    #[error("{0}: wrong signature of the completed entry")]
    Signature(Opcode),
    /// The device is not one this driver knows.
    #[error("{0}")]
    Device(String),
    /// The driver's own memory is used up.
    #[error("no {0} bytes of memory")]
    NoMemory(u64),
    /// A queue has no room for the work request.
    #[error("queue {0:#x} is full")]
    QueueFull(u32),
    /// A work request cannot be written in the space there is.
    #[error("work request too large")]
    TooLarge,
    /// No such object.
    #[error("no object {0:#x}")]
    NoObject(u32),
    /// Memory that should be the driver's is not there.
    #[error(transparent)]
    Memory(#[from] DmaError),
    /// The vfio-user connection failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Error {
    /// The status of a refused command.
    pub fn status(&self) -> Option<Status> {
        match self {
            Error::Refused { status, .. } => *status,
            _ => None,
        }
    }
}

/// A driver's result.
pub type Result<T> = std::result::Result<T, Error>;
