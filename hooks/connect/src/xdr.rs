//! XDR (RFC 4506), as far as libvirt's calls need it: numbers, strings, optional strings, opaque bytes, typed parameters.

use std::ops::Range;

use crate::packet::MAX_STRING;

/// Elements of a list of typed parameters; libvirt's own limits are 64 and lower.
const MAX_PARAMETERS: u32 = 64;
/// `VIR_TYPED_PARAM_STRING`.
const STRING: u32 = 7;

/// The bytes are not what the call's arguments have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads values one after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A string and the bytes that encode it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The string; libvirt sends UTF-8 but does not check it.
    pub bytes: &'a [u8],
    /// Its length field, its bytes and their padding, in the reader's bytes.
    pub span: Range<usize>,
}

impl<'a> Reader<'a> {
    /// At the beginning of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    /// An `unsigned int`.
    ///
    /// # Errors
    /// The bytes end before it does.
    pub fn number(&mut self) -> Result<u32, Malformed> {
        let mut word = [0; 4];
        word.copy_from_slice(self.take(4)?);
        Ok(u32::from_be_bytes(word))
    }

    /// Skips an `unsigned hyper`, a `hyper` or a `double`.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn skip_long(&mut self) -> Result<(), Malformed> {
        self.take(8).map(|_| ())
    }

    /// Bytes of a fixed length that is a multiple of four.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn fixed(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        self.take(count)
    }

    /// A `string` or an `opaque` of variable length.
    ///
    /// # Errors
    /// It is longer than libvirt allows, or the bytes end before it does.
    pub fn string(&mut self) -> Result<Text<'a>, Malformed> {
        let start = self.at;
        let length = self.number()? as usize;
        if length > MAX_STRING {
            return Err(Malformed);
        }
        let bytes = self.take(length)?;
        // XDR pads each item to a multiple of four bytes (RFC 4506, section 3).
        self.take(padding(length))?;
        Ok(Text {
            bytes,
            span: start..self.at,
        })
    }

    /// An optional `string`; the span is that of the string without its flag.
    ///
    /// # Errors
    /// As [`Self::string`]; the flag is neither 0 nor 1.
    pub fn optional(&mut self) -> Result<Option<Text<'a>>, Malformed> {
        match self.number()? {
            0 => Ok(None),
            1 => self.string().map(Some),
            _ => Err(Malformed),
        }
    }

    /// A list of typed parameters: the strings among them, by field.
    ///
    /// # Errors
    /// The list is too long, or a type is unknown, whose length is therefore unknown.
    pub fn parameters(&mut self) -> Result<Vec<(&'a [u8], Text<'a>)>, Malformed> {
        let count = self.number()?;
        if count > MAX_PARAMETERS {
            return Err(Malformed);
        }
        let mut strings = Vec::new();
        for _ in 0..count {
            let field = self.string()?.bytes;
            match self.number()? {
                // int, unsigned int, boolean
                1 | 2 | 6 => _ = self.number()?,
                // hyper, unsigned hyper, double
                3..=5 => self.skip_long()?,
                STRING => strings.push((field, self.string()?)),
                _ => return Err(Malformed),
            }
        }
        Ok(strings)
    }
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

/// Appends an `unsigned int`.
pub fn put_number(to: &mut Vec<u8>, number: u32) {
    to.extend(number.to_be_bytes());
}

/// Appends a `string`.
///
/// # Errors
/// It is longer than libvirt reads.
pub fn put_string(to: &mut Vec<u8>, text: &[u8]) -> Result<(), Malformed> {
    let length = u32::try_from(text.len()).map_err(|_| Malformed)?;
    if text.len() > MAX_STRING {
        return Err(Malformed);
    }
    put_number(to, length);
    to.extend(text);
    to.resize(to.len() + padding(text.len()), 0);
    Ok(())
}
