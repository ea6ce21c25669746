//! EDF, Ergo's data format, as far as registrars use it (net/edf/decode.go and encode.go). Numbers are big-endian; the
//! fields of a registered type stand one behind the other, without tags.

/// Tags (net/edf/init.go).
pub(super) const TYPE: u8 = 0x82;
pub(super) const REGISTERED: u8 = 0x83;
const SLICE: u8 = 0x9d;
const NIL: u8 = 0xff;

/// An error that is none.
const NO_ERROR: u16 = 0xffff;
/// Greater lengths stand for an entry of a cache that the two ends of a link agree on; a registrar has none.
const LONGEST_ERROR: u16 = 0x7fff;
const LONGEST_ATOM: u16 = 255;

/// Bytes that are not the EDF that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {what}")]
pub struct BadEdf {
    /// Where, counted from 0.
    pub at: usize,
    /// What stands there, and what should.
    pub what: String,
}

/// Reads from the front; no count makes it take more memory than there are bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    pub(super) fn bad(&self, what: impl Into<String>) -> BadEdf {
        BadEdf { at: self.at, what: what.into() }
    }

    /// Whether everything has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.all.len()
    }

    pub(super) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], BadEdf> {
        let left = self.all.get(self.at..).unwrap_or_default();
        let Some((taken, _)) = left.split_at_checked(count) else {
            return Err(self.bad(format!("{what} needs {count} bytes, and {} are left", left.len())));
        };
        self.at += count;
        Ok(taken)
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, BadEdf> {
        Ok(self.take(1, what)?.first().copied().unwrap_or_default())
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16, BadEdf> {
        Ok(self.take(2, what)?.try_into().map(u16::from_be_bytes).unwrap_or_default())
    }

    fn u32(&mut self, what: &str) -> Result<u32, BadEdf> {
        Ok(self.take(4, what)?.try_into().map(u32::from_be_bytes).unwrap_or_default())
    }

    pub(super) fn boolean(&mut self, what: &str) -> Result<bool, BadEdf> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.bad_before(1, format!("{what} is 0x{other:02x}, neither 0 nor 1"))),
        }
    }

    pub(super) fn expect(&mut self, tag: u8, what: &str) -> Result<(), BadEdf> {
        match self.u8(what)? {
            found if found == tag => Ok(()),
            found => Err(self.bad_before(1, format!("0x{found:02x} stands in the place of {what} (0x{tag:02x})"))),
        }
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, BadEdf> {
        let length = self.u16(what)?;
        self.text(length.into(), what)
    }

    /// A name of up to 255 bytes.
    pub(super) fn atom(&mut self, what: &str) -> Result<String, BadEdf> {
        let length = self.u16(what)?;
        if length > LONGEST_ATOM {
            return Err(self.bad_before(2, format!("{what} is of a cache that there is none of here ({length})")));
        }
        self.text(length.into(), what)
    }

    /// The text of an error; `None` is none.
    pub(super) fn error(&mut self, what: &str) -> Result<Option<String>, BadEdf> {
        match self.u16(what)? {
            NO_ERROR => Ok(None),
            length if length > LONGEST_ERROR => {
                Err(self.bad_before(2, format!("{what} is of a cache that there is none of here ({length})")))
            }
            length => self.text(length.into(), what).map(Some),
        }
    }

    /// Things of at least `least` bytes each.
    pub(super) fn slice<T>(
        &mut self,
        what: &str,
        least: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, BadEdf>,
    ) -> Result<Vec<T>, BadEdf> {
        match self.u8(what)? {
            NIL => return Ok(Vec::new()),
            SLICE => {}
            other => return Err(self.bad_before(1, format!("0x{other:02x} stands in the place of {what}"))),
        }
        let count = self.u32(what)? as usize;
        let left = self.all.len() - self.at;
        if count > left / least.max(1) {
            return Err(self.bad_before(4, format!("{what} should be {count}, and {left} bytes are left")));
        }
        (0..count).map(|_| one(self)).collect()
    }

    fn text(&mut self, length: usize, what: &str) -> Result<String, BadEdf> {
        let bytes = self.take(length, what)?;
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        text.map_err(|_not_utf8| self.bad_before(length, format!("{what} is not UTF-8")))
    }

    fn bad_before(&self, back: usize, what: String) -> BadEdf {
        BadEdf { at: self.at.saturating_sub(back), what }
    }
}

pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    let text = text.get(..text.len().min(u16::MAX.into())).unwrap_or_default();
    out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(text);
}

pub(super) fn put_error(out: &mut Vec<u8>, error: Option<&str>) {
    match error {
        None => out.extend(NO_ERROR.to_be_bytes()),
        Some(text) => put_string(out, text.get(..text.len().min(LONGEST_ERROR.into())).unwrap_or_default()),
    }
}

pub(super) fn put_slice<T>(out: &mut Vec<u8>, items: &[T], one: impl Fn(&mut Vec<u8>, &T)) {
    if items.is_empty() {
        return out.push(NIL);
    }
    out.push(SLICE);
    out.extend(u32::try_from(items.len()).unwrap_or(u32::MAX).to_be_bytes());
    items.iter().for_each(|item| one(out, item));
}
