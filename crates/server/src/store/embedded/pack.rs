//! A row as one column: its values as bytes, one after the other, behind a checksum over them.
//!
//! SQLite spends some hundred instructions on every column that is bound, written and read, and a
//! row is written twice in a delivery's life. So the tables with most rows have an id and this.
//! Numbers are little-endian and of fixed width; texts have their length in front (varint, see
//! [`super::codec`]). The checksum (CRC-32C) begins with the row's id, so a row at another's place
//! does not match either.
//!
//! Absent here: which values a row has; see [`super::row`].

use super::codec::{Cursor, varint};

/// Bytes of the checksum at the front of a row.
pub const SUM_BYTES: usize = 4;

/// Writes a row into a buffer that is used again.
pub struct Packer<'a>(&'a mut Vec<u8>);

impl<'a> Packer<'a> {
    /// Starts over, with room for the checksum.
    pub fn new(out: &'a mut Vec<u8>) -> Packer<'a> {
        out.clear();
        out.extend_from_slice(&[0; SUM_BYTES]);
        Packer(out)
    }

    /// Adds a value of fixed width.
    pub fn put<const N: usize>(&mut self, value: [u8; N]) -> &mut Self {
        self.0.extend_from_slice(&value);
        self
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        varint(self.0, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts the checksum of the row with this id in front.
    pub fn seal(&mut self, id: u64) {
        let (front, values) = self.0.split_at_mut(SUM_BYTES);
        front.copy_from_slice(&sum(id, values).to_le_bytes());
    }
}

/// Reads a row. Where the bytes end too early there is `None`.
pub struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    /// Begins with the values, if they match the checksum.
    #[must_use]
    pub fn checked(id: u64, row: &'a [u8]) -> Option<Unpacker<'a>> {
        let (front, values) = row.split_first_chunk()?;
        (sum(id, values) == u32::from_le_bytes(*front)).then_some(Unpacker(values))
    }

    /// Begins with the values, whether they match or not.
    #[must_use]
    pub fn unchecked(row: &'a [u8]) -> Option<Unpacker<'a>> {
        row.get(SUM_BYTES..).map(Unpacker)
    }

    /// The next value of fixed width.
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*value)
    }

    /// The next text.
    pub fn text(&mut self) -> Option<Box<str>> {
        let mut cursor = Cursor {
            bytes: self.0,
            at: 0,
        };
        let (_, text) = cursor.framed().ok()?;
        self.0 = &self.0[cursor.at..];
        Some(std::str::from_utf8(text).ok()?.into())
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The state of a CRC is as wide as the checksum, so different beginnings never come to the same.
fn sum(id: u64, values: &[u8]) -> u32 {
    crc32c::crc32c_append((id ^ id >> 32) as u32, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed() -> Vec<u8> {
        let mut row = Vec::new();
        let mut packer = Packer::new(&mut row);
        packer.put([7]).text("grün").put(9_u64.to_le_bytes());
        packer.text("");
        assert_eq!(packer.len(), SUM_BYTES + 1 + 6 + 8 + 1);
        packer.seal(3);
        row
    }

    #[test]
    fn what_was_packed_is_unpacked_in_order() {
        let row = packed();
        for unpacker in [Unpacker::checked(3, &row), Unpacker::unchecked(&row)] {
            let mut unpacker = unpacker.unwrap();
            assert_eq!(unpacker.take(), Some([7]));
            assert_eq!(unpacker.text().as_deref(), Some("grün"));
            assert!(!unpacker.is_empty());
            assert_eq!(unpacker.take().map(u64::from_le_bytes), Some(9));
            assert_eq!(unpacker.text().as_deref(), Some(""));
            assert!(unpacker.is_empty());
            assert_eq!(unpacker.take::<1>(), None);
            assert_eq!(unpacker.text(), None);
        }
    }

    #[test]
    fn every_changed_bit_and_any_other_place_is_noticed() {
        let row = packed();
        assert!(Unpacker::checked(4, &row).is_none());
        assert!(Unpacker::checked(3 << 32, &row).is_some(), "folds alike");
        for bit in 0..row.len() * 8 {
            let mut changed = row.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Unpacker::checked(3, &changed).is_none(), "bit {bit}");
        }
        for len in 0..row.len() {
            assert!(Unpacker::checked(3, &row[..len]).is_none(), "cut at {len}");
        }
    }
}
