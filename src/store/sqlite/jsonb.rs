//! Rows as one bound parameter, in SQLite's binary JSON, for `jsonb_each(?)`.
//!
//! A statement then takes any number of rows with one text, prepared once. The binary form needs no escaping here and no
//! parsing there, and whatever text goes in comes out byte by byte.
//!
//! The format: every element is a header and a payload. The header's low nibble is the type, the high one the payload's
//! size, or 12, 13, 14 for a big-endian size in the following 1, 2, 4 bytes. Headers may be longer than they need to be.

use std::fmt::Display;
use std::io::Write as _;

const NULL: u8 = 0x00;
const INT: u8 = 0x03;
const TEXT: u8 = 0x0a;
const ARRAY: u8 = 0x0b;
const SIZE_IN_4_BYTES: u8 = 0xe0;
/// Bytes of an array's header: its size is known only at the end, so it gets room for any.
const ARRAY_HEADER: usize = 5;

/// An array of rows, or of bare texts.
#[derive(Debug)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    count: u64,
}

impl Rows {
    pub(super) fn new() -> Self {
        let mut bytes = Vec::new();
        open_array(&mut bytes);
        Self { bytes, count: 0 }
    }

    /// An array of texts.
    pub(super) fn of_texts<T: Display>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut rows = Self::new();
        for text in texts {
            rows.item(text);
        }
        rows
    }

    /// Begins a row; what is written to it are its columns, from 0.
    pub(super) fn row(&mut self) -> Row<'_> {
        self.count += 1;
        let start = self.bytes.len();
        open_array(&mut self.bytes);
        Row {
            bytes: &mut self.bytes,
            start,
        }
    }

    /// Adds a bare text instead of a row.
    pub(super) fn item(&mut self, text: impl Display) {
        self.count += 1;
        put_text(&mut self.bytes, &text.to_string());
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished parameter.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        close_array(&mut self.bytes, 0);
        self.bytes
    }
}

/// One row; complete when dropped.
#[derive(Debug)]
pub(super) struct Row<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl Row<'_> {
    pub(super) fn text(self, text: &str) -> Self {
        put_text(self.bytes, text);
        self
    }

    /// For ids and the like, whose text is short.
    pub(super) fn shown(self, value: impl Display) -> Self {
        // A short header is written first and corrected: ids have fewer than 256 bytes but for odd step ids.
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0xc0 | TEXT, 0]);
        write!(self.bytes, "{value}").expect("a vector takes any number of bytes");
        match u8::try_from(self.bytes.len() - start - 2) {
            Ok(len) => self.bytes[start + 1] = len,
            Err(_) => {
                let text = self.bytes.split_off(start + 2);
                self.bytes.truncate(start);
                put_header(self.bytes, TEXT, text.len());
                self.bytes.extend_from_slice(&text);
            }
        }
        self
    }

    pub(super) fn int(self, value: impl Into<i64>) -> Self {
        let mut digits = [0_u8; 20];
        let mut rest = &mut digits[..];
        write!(rest, "{}", value.into()).expect("20 bytes hold any i64");
        let free = rest.len();
        let len = digits.len() - free;
        put_header(self.bytes, INT, len);
        self.bytes.extend_from_slice(&digits[..len]);
        self
    }

    pub(super) fn null(self) -> Self {
        self.bytes.push(NULL);
        self
    }

    pub(super) fn text_or_null(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    pub(super) fn int_or_null(self, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.int(value),
            None => self.null(),
        }
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        close_array(self.bytes, self.start);
    }
}

fn open_array(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&[SIZE_IN_4_BYTES | ARRAY, 0, 0, 0, 0]);
}

/// Fills in the size of the array that began at `start`. One that is too large for the format is larger than SQLite
/// takes by far: it keeps a size that is wrong, and SQLite refuses the parameter for its length.
fn close_array(bytes: &mut [u8], start: usize) {
    let size = bytes.len() - start - ARRAY_HEADER;
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    bytes[start + 1..start + ARRAY_HEADER].copy_from_slice(&size.to_be_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_header(bytes, TEXT, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn put_header(bytes: &mut Vec<u8>, kind: u8, size: usize) {
    if let Ok(size) = u8::try_from(size) {
        if size < 12 {
            bytes.push(size << 4 | kind);
        } else {
            bytes.extend_from_slice(&[0xc0 | kind, size]);
        }
    } else if let Ok(size) = u16::try_from(size) {
        bytes.push(0xd0 | kind);
        bytes.extend_from_slice(&size.to_be_bytes());
    } else {
        bytes.push(SIZE_IN_4_BYTES | kind);
        bytes.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use sqlx::{Connection as _, Row as _, SqliteConnection};

    use super::*;

    #[rstest]
    #[case(0)]
    #[case(11)]
    #[case(12)]
    #[case(255)]
    #[case(256)]
    #[case(65_535)]
    #[case(65_536)]
    #[tokio::test]
    async fn texts_of_every_length_come_back(#[case] len: usize) {
        let text: String = "\"\\\n\u{1}é\u{1f600}x".chars().cycle().take(len).collect();
        let mut rows = Rows::new();
        rows.row().text(&text).shown(&text).int(-5).null().int(i64::MIN);
        rows.row().text("next").shown("next").int(7).int(1).int(i64::MAX);
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.expect("opens");
        let sql = "SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM jsonb_each(?)";
        let found = sqlx::query(sql).bind(rows.into_bytes()).fetch_all(&mut conn).await;
        let found = found.expect("valid JSONB");
        assert_eq!(found[0].get::<String, _>(0), text);
        assert_eq!(found[0].get::<String, _>(1), text);
        assert_eq!(found[0].get::<i64, _>(2), -5);
        assert_eq!(found[0].get::<Option<i64>, _>(3), None);
        assert_eq!(found[0].get::<i64, _>(4), i64::MIN);
        assert_eq!(found[1].get::<String, _>(1), "next");
        assert_eq!(found[1].get::<i64, _>(4), i64::MAX);
    }
}
