//! The AETH syndrome byte, IBTA 9.7.5.2 table 44.

use super::config::WcError;

/// ACK with credit field 31: no end-to-end flow control.
pub(crate) const ACK: u8 = 0x1f;
/// NAK, PSN sequence error.
pub(crate) const NAK_SEQUENCE: u8 = 0x60;
/// NAK, invalid request.
pub(crate) const NAK_INVALID_REQUEST: u8 = 0x61;
/// NAK, remote access error.
pub(crate) const NAK_REMOTE_ACCESS: u8 = 0x62;
/// NAK, remote operational error.
pub(crate) const NAK_REMOTE_OPERATION: u8 = 0x63;
/// RNR NAK with timer code 0.
pub(crate) const RNR_NAK: u8 = 0x20;

/// A syndrome byte by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syndrome {
    Ack,
    Rnr(u8),
    Sequence,
    Fatal(WcError),
}

/// Reserved NAK codes (and 4, invalid RD request) count as remote operational errors,
/// reserved types as a bad response.
pub(crate) fn decode(syndrome: u8) -> Syndrome {
    match (syndrome >> 5, syndrome & 0x1f) {
        (0, _) => Syndrome::Ack,
        (1, code) => Syndrome::Rnr(code),
        (3, 0) => Syndrome::Sequence,
        (3, 1) => Syndrome::Fatal(WcError::RemoteInvalidRequest),
        (3, 2) => Syndrome::Fatal(WcError::RemoteAccess),
        (3, _) => Syndrome::Fatal(WcError::RemoteOperation),
        _ => Syndrome::Fatal(WcError::BadResponse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syndromes_of_table_44() {
        assert_eq!(decode(0x00), Syndrome::Ack);
        assert_eq!(decode(ACK), Syndrome::Ack);
        assert_eq!(decode(RNR_NAK | 12), Syndrome::Rnr(12));
        assert_eq!(decode(NAK_SEQUENCE), Syndrome::Sequence);
        assert_eq!(
            decode(NAK_INVALID_REQUEST),
            Syndrome::Fatal(WcError::RemoteInvalidRequest)
        );
        assert_eq!(
            decode(NAK_REMOTE_ACCESS),
            Syndrome::Fatal(WcError::RemoteAccess)
        );
        assert_eq!(
            decode(NAK_REMOTE_OPERATION),
            Syndrome::Fatal(WcError::RemoteOperation)
        );
        assert_eq!(decode(0x64), Syndrome::Fatal(WcError::RemoteOperation));
        assert_eq!(decode(0x40), Syndrome::Fatal(WcError::BadResponse));
    }
}
