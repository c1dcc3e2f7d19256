//! Inputs made of other inputs: bits turned, parts cut, doubled, mixed, and what programs trip over put in.

use fastrand::Rng;

/// No input is longer, in bytes: what takes longer to read than to find out about.
const LONGEST: usize = 64 * 1024;

/// What has a meaning somewhere, or is at an edge of one.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xf0\x9f\xa6\x80",
    b"\xed\xa0\x80",
    b"\n",
    b"\r\n",
    b"\x1b[2J",
    b" ",
    b"/",
    b"../",
    b":",
    b"@",
    b"@sha256:",
    b"%",
    b"=",
    b",",
    b"-1",
    b"nan",
    b"1e309",
    b"{",
    b"\"",
];

/// A new input, of one or two of those that are kept.
pub(crate) fn mutated(corpus: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut input = any(corpus, random).clone();
    for _ in 0..random.usize(1..8) {
        mutate(&mut input, corpus, random);
    }
    input.truncate(LONGEST);
    input
}

fn any<'a>(corpus: &'a [Vec<u8>], random: &mut Rng) -> &'a Vec<u8> {
    &corpus[random.usize(0..corpus.len())]
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Rng) {
    let at = random.usize(0..=input.len());
    let until = at + random.usize(0..=(input.len() - at).min(64));
    match random.u8(0..8) {
        0 | 1 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
        2 if at < input.len() => input[at] = random.u8(..),
        3 => drop(input.drain(at..until)),
        4 => {
            let part = input[at..until].to_vec();
            let to = random.usize(0..=input.len());
            drop(input.splice(to..to, part));
        }
        5 => {
            let word = WORDS[random.usize(0..WORDS.len())];
            drop(input.splice(at..until, word.iter().copied()));
        }
        6 => {
            let other = any(corpus, random);
            let from = random.usize(0..=other.len());
            drop(input.splice(at.., other[from..].iter().copied()));
        }
        _ => {
            let more = (0..random.usize(1..32)).map(|_| random.u8(..));
            drop(input.splice(at..at, more.collect::<Vec<_>>()));
        }
    }
}
