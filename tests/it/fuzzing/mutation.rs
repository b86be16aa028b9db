//! Messages in protobuf, whole and damaged.

use crate::chaos::Dice;

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits"));
}

/// A field that is a number.
pub(super) fn number(tag: u64, value: u64) -> Vec<u8> {
    let mut field = Vec::new();
    varint(tag << 3, &mut field);
    varint(value, &mut field);
    field
}

/// A field that is bytes, a text or a message.
pub(super) fn bytes(tag: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let mut field = Vec::new();
    varint(tag << 3 | 2, &mut field);
    varint(value.len() as u64, &mut field);
    field.extend_from_slice(value);
    field
}

/// The field of this tag in a message of nothing but short bytes.
pub(super) fn read(message: &[u8], tag: u8) -> Vec<u8> {
    let mut rest = message;
    while let [field, more @ ..] = rest {
        let (mut length, mut shift, mut at) = (0_usize, 0, 0);
        loop {
            length |= usize::from(more[at] & 0x7f) << shift;
            shift += 7;
            at += 1;
            if more[at - 1] < 0x80 {
                break;
            }
        }
        if field >> 3 == tag {
            return more[at..at + length].to_vec();
        }
        rest = &more[at + length..];
    }
    panic!("no field {tag} in {message:?}");
}

/// A message with a fault or two. It may be whole by chance.
pub(super) fn damaged(dice: &mut Dice, message: &[u8]) -> Vec<u8> {
    const ODD: [u8; 5] = [0x00, 0x01, 0x7f, 0x80, 0xff];
    let mut message = message.to_vec();
    for _ in 0..dice.between(1, 2) {
        let length = message.len() as u64;
        let place = |dice: &mut Dice| usize::try_from(dice.between(0, length.saturating_sub(1))).expect("small");
        let at = place(dice);
        match dice.between(0, 6) {
            _ if message.is_empty() => message.push(ODD[4]),
            0 => message[at] ^= 1 << dice.between(0, 7),
            1 => message[at] = ODD[usize::try_from(dice.between(0, 4)).expect("small")],
            2 => message.truncate(at),
            // A number or a length that is far too large.
            3 => drop(message.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])),
            // A part twice.
            4 => {
                let (from, to) = (at.min(place(dice)), at.max(place(dice)));
                let (from, to) = (from.min(to), from.max(to));
                let part = message[from..to].to_vec();
                message.splice(at..at, part);
            }
            5 => drop(message.remove(at)),
            _ => message.insert(at, u8::try_from(dice.between(0, 255)).expect("a byte")),
        }
    }
    message
}

/// Bytes that mean nothing.
pub(super) fn noise(dice: &mut Dice, most: u64) -> Vec<u8> {
    let count = dice.between(1, most);
    (0..count)
        .map(|_| u8::try_from(dice.between(0, 255)).expect("a byte"))
        .collect()
}
