//! What the targets of heads share.

use portolan::request::{BadHead, ConnectRequest, HeadReader, Step};

/// Whole and byte by byte come to the same, and no byte behind a head is lost.
pub fn check(bytes: &[u8]) {
    let whole = read([bytes]);
    assert_eq!(read(bytes.chunks(1)), whole);
    if let Ok(Some(request)) = whole {
        assert!(bytes.ends_with(&request.tail));
    }
}

/// What comes of the pieces; all that follows a request belongs to its tail. What asks for a lease has none.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<ConnectRequest>, BadHead> {
    let mut reader = HeadReader::new();
    let mut request: Option<ConnectRequest> = None;
    for mut piece in pieces {
        while !piece.is_empty() {
            if let Some(request) = &mut request {
                request.tail.extend_from_slice(piece);
                break;
            }
            let (mut now, later) = piece.split_at(piece.len().min(reader.room()));
            piece = later;
            loop {
                match reader.advance(now)? {
                    Step::More => break,
                    Step::Reply(_) => now = b"",
                    Step::Request(complete) => {
                        request = Some(complete);
                        break;
                    }
                    Step::Lease(node) => return Ok(Some(ConnectRequest::forward(node))),
                }
            }
        }
    }
    Ok(request)
}
