//! Why a TLS handshake failed, in words for the person who is woken by it.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use crate::dial::DialError;

/// At most so many names of a peer's certificate are told.
const MAX_NAMES: usize = 8;

/// The error of a handshake over tokio-rustls, which wraps rustls's own into an [`io::Error`].
pub(super) fn of_handshake(error: &io::Error) -> DialError {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return of_tls(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::WriteZero
        | io::ErrorKind::BrokenPipe => DialError::Terminated,
        io::ErrorKind::TimedOut => DialError::TimedOut,
        io::ErrorKind::HostUnreachable => DialError::Unreachable("host unreachable"),
        io::ErrorKind::NetworkUnreachable => DialError::Unreachable("network unreachable"),
        _ => DialError::Tls(error.to_string()),
    }
}

/// The error of a stream that was up: TLS's in our words, any other in its own.
///
/// Under TLS 1.3 this is where a peer refuses our certificate (RFC 8446, section 4.4.2.4).
pub(crate) fn of_relay(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).map(of_tls) {
        Some(DialError::Tls(why)) => format!("TLS failed: {why}"),
        Some(known) => known.to_string(),
        None => error.to_string(),
    }
}

fn of_tls(error: &Error) -> DialError {
    match error {
        Error::InvalidCertificate(error) => DialError::Certificate(certificate(error)),
        Error::NoCertificatesPresented => DialError::Certificate("the peer has none".to_owned()),
        Error::AlertReceived(description) if is_about_us(*description) => DialError::Credential(alert(*description)),
        Error::AlertReceived(description) => DialError::Alert(alert(*description)),
        // What the first bytes of another protocol look like to a record layer.
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload,
        ) => DialError::Tls("the peer does not speak TLS".to_owned()),
        Error::InvalidMessage(problem) => DialError::Tls(format!("the peer sent a broken message ({problem:?})")),
        Error::InappropriateMessage { got_type, .. } => {
            DialError::Tls(format!("the peer sent a message out of turn ({got_type:?})"))
        }
        Error::InappropriateHandshakeMessage { got_type, .. } => {
            DialError::Tls(format!("the peer sent a message out of turn ({got_type:?})"))
        }
        Error::PeerIncompatible(what) => DialError::Tls(incompatible(what)),
        Error::PeerMisbehaved(what) => DialError::Tls(format!("the peer breaks the protocol ({what:?})")),
        Error::DecryptError => DialError::Tls("the peer sent a record that cannot be decrypted".to_owned()),
        Error::PeerSentOversizedRecord => DialError::Tls("the peer sent a record that is too large".to_owned()),
        Error::FailedToGetCurrentTime => DialError::Local("the clock cannot be read".to_owned()),
        Error::FailedToGetRandomBytes => DialError::Local("there are no random bytes".to_owned()),
        other => DialError::Tls(other.to_string()),
    }
}

/// What is wrong with the peer's certificate; goes on after "certificate refused: ".
fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("expired on {} (this machine's clock says {})", date(*not_after), date(*time))
        }
        CertificateError::NotValidYet => "is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("is not valid before {} (this machine's clock says {})", date(*not_before), date(*time))
        }
        CertificateError::NotValidForName => "is not valid for the server name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("is not valid for name `{}`, {}", expected.to_str(), names(presented))
        }
        CertificateError::UnknownIssuer => {
            "is issued by an authority that is not trusted, or the peer leaves out an intermediate certificate"
                .to_owned()
        }
        CertificateError::BadSignature => "has a wrong signature: its authority has the name of a trusted one and \
             another key, or the peer's key is not the certificate's"
            .to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not made for servers: its extendedKeyUsage lacks serverAuth".to_owned()
        }
        CertificateError::Revoked => "is revoked".to_owned(),
        CertificateError::BadEncoding => "cannot be read: it is not encoded as X.509 wants".to_owned(),
        CertificateError::UnhandledCriticalExtension => "has a critical extension that is not known here".to_owned(),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed in a way that is not supported (SHA-1, DSA, or an unusual curve)".to_owned()
        }
        CertificateError::Other(error) => unusual(error),
        other => other.to_string(),
    }
}

/// Our own pins, and what webpki finds that rustls has no word for.
fn unusual(OtherError(error): &OtherError) -> String {
    // webpki is not a dependency of ours, and its `Display` is the variant's name.
    match error.to_string().as_str() {
        "CaUsedAsEndEntity" => {
            "is an authority's own (CA:TRUE), self-signed perhaps: a server needs one that an authority signed"
                .to_owned()
        }
        "EndEntityUsedAsCa" => "is signed by a certificate that is no authority's (CA:FALSE)".to_owned(),
        "UnsupportedCertVersion" => "is not X.509 version 3: issue it with extensions (subjectAltName)".to_owned(),
        "NameConstraintViolation" => "bears a name that its authority may not sign (name constraints)".to_owned(),
        "PathLenConstraintViolated" => "has a chain that is longer than its authority allows".to_owned(),
        other => other.to_owned(),
    }
}

/// The names of a certificate as webpki prints them: `DnsName("a")`, `IpAddress(::1)`.
///
/// The peer wrote them, so they are cut, and escaped.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "nor for any: it has no subjectAltName (a common name does not count)".to_owned();
    }
    let known: Vec<String> = presented.iter().take(MAX_NAMES).map(|name| bare(name)).collect();
    let more = match presented.len().saturating_sub(MAX_NAMES) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("only for {}{more}", known.join(", "))
}

fn bare(name: &str) -> String {
    let address = name.strip_prefix("IpAddress(").and_then(|rest| rest.strip_suffix(')'));
    if let Some(address) = address.and_then(|address| address.parse::<IpAddr>().ok()) {
        return address.to_string();
    }
    let inner = name.strip_prefix("DnsName(\"").and_then(|rest| rest.strip_suffix("\")"));
    inner.unwrap_or(name).chars().take(255).flat_map(char::escape_debug).collect()
}

fn incompatible(what: &PeerIncompatible) -> String {
    match what {
        PeerIncompatible::ServerDoesNotSupportTls12Or13 => {
            "the peer speaks neither TLS 1.2 nor TLS 1.3, only something older".to_owned()
        }
        other => format!("peer and portolan have nothing in common ({other:?})"),
    }
}

/// An alert's name in RFC 8446, section 6, and what it says about us where that is known.
fn alert(description: AlertDescription) -> String {
    let text = match description {
        AlertDescription::HandshakeFailure => {
            "handshake_failure: it has no cipher in common with us, or wants a client certificate (tls.cert, tls.key)"
        }
        AlertDescription::CertificateRequired => {
            "certificate_required: it wants a client certificate (tls.cert, tls.key)"
        }
        AlertDescription::BadCertificate => "bad_certificate: it refuses our client certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate: it refuses our client certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked: our client certificate is revoked",
        AlertDescription::CertificateExpired => "certificate_expired: our client certificate has expired",
        AlertDescription::CertificateUnknown => "certificate_unknown: it refuses our client certificate",
        AlertDescription::UnknownCA => "unknown_ca: it does not trust the authority of our client certificate",
        AlertDescription::AccessDenied => "access_denied: our client certificate may not come in",
        AlertDescription::UnrecognisedName => {
            "unrecognized_name: it has no certificate for the name that we ask for (tls.server_name)"
        }
        AlertDescription::ProtocolVersion => "protocol_version: it speaks neither TLS 1.2 nor TLS 1.3",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => {
            "decrypt_error: the signature of our client certificate, or ours, is wrong to it"
        }
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::NoApplicationProtocol => {
            "no_application_protocol: it wants ALPN, which portolan does not use"
        }
        AlertDescription::InternalError => "internal_error",
        AlertDescription::Unknown(number) => return number.to_string(),
        other => return format!("{other:?}"),
    };
    text.to_owned()
}

/// Whether the peer speaks of our certificate: the client's is the only one that it looks at, and the only signature
/// that it verifies.
fn is_about_us(description: AlertDescription) -> bool {
    matches!(
        description,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

/// As RFC 3339 has it, in UTC; seconds since 1970 for what lies past the year 9999.
fn date(time: UnixTime) -> String {
    /// 9999-12-31T23:59:59Z.
    const LAST: u64 = 253_402_300_799;

    match time.as_secs() {
        seconds @ ..=LAST => humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(),
        seconds => format!("second {seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;

    use super::*;

    fn wrapped(error: Error) -> DialError {
        of_handshake(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn an_end_without_a_word_is_the_peers() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe] {
            assert_eq!(of_handshake(&kind.into()), DialError::Terminated);
        }
        assert_eq!(of_handshake(&io::ErrorKind::TimedOut.into()), DialError::TimedOut);
    }

    #[test]
    fn what_ends_a_relay_is_told_in_the_same_words() {
        let told = |error: Error| of_relay(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(
            told(Error::AlertReceived(AlertDescription::CertificateRequired)),
            "the peer sent the TLS alert certificate_required: it wants a client certificate (tls.cert, tls.key)"
        );
        assert_eq!(told(Error::DecryptError), "TLS failed: the peer sent a record that cannot be decrypted");
        assert_eq!(of_relay(&io::Error::other("no route to host")), "no route to host");
    }

    #[test]
    fn times_are_told_with_our_own_clock() {
        let expired = CertificateError::ExpiredContext { time: at(1_800_000_000), not_after: at(1_577_836_800) };
        assert_eq!(
            wrapped(expired.into()).to_string(),
            "certificate refused: expired on 2020-01-01T00:00:00Z (this machine's clock says 2027-01-15T08:00:00Z)"
        );
        let future = CertificateError::NotValidYetContext { time: at(0), not_before: at(u64::MAX) };
        assert_eq!(
            wrapped(future.into()).to_string(),
            "certificate refused: is not valid before second 18446744073709551615 (this machine's clock says \
             1970-01-01T00:00:00Z)"
        );
        assert_eq!(date(at(253_402_300_799)), "9999-12-31T23:59:59Z");
        assert_eq!(date(at(253_402_300_800)), "second 253402300800");
    }

    #[test]
    fn names_of_a_certificate_cannot_forge_a_line_nor_flood() {
        let expected = ServerName::try_from("db.example").unwrap();
        let mut presented = vec!["DnsName(\"a\nb\")".to_owned(), "IpAddress(0::1)".to_owned(), "Else".to_owned()];
        let told = |presented: &[String]| {
            let error =
                CertificateError::NotValidForNameContext { expected: expected.clone(), presented: presented.to_vec() };
            wrapped(error.into()).to_string()
        };
        assert_eq!(
            told(&presented),
            "certificate refused: is not valid for name `db.example`, only for a\\nb, ::1, Else"
        );
        presented.resize(20, format!("DnsName(\"{}\")", "x".repeat(70_000)));
        assert!(told(&presented).ends_with("x and 12 more"));
        assert!(told(&presented).len() < 2_000);
        assert_eq!(
            told(&[]),
            "certificate refused: is not valid for name `db.example`, nor for any: it has no subjectAltName (a common \
             name does not count)"
        );
    }

    #[test]
    fn an_alert_says_what_it_means_for_us() {
        assert_eq!(
            wrapped(Error::AlertReceived(AlertDescription::UnknownCA)).to_string(),
            "the peer sent the TLS alert unknown_ca: it does not trust the authority of our client certificate"
        );
        assert_eq!(
            wrapped(Error::AlertReceived(AlertDescription::from(200))).to_string(),
            "the peer sent the TLS alert 200"
        );
    }

    #[test]
    fn what_only_webpki_has_a_word_for_is_told_in_ours() {
        let error = CertificateError::Other(OtherError(Arc::new(io::Error::other("UnsupportedCertVersion"))));
        assert_eq!(
            wrapped(error.into()).to_string(),
            "certificate refused: is not X.509 version 3: issue it with extensions (subjectAltName)"
        );
    }

    #[test]
    fn what_this_machine_lacks_is_no_fault_of_the_peer() {
        assert_eq!(wrapped(Error::FailedToGetRandomBytes), DialError::Local("there are no random bytes".to_owned()));
    }
}
