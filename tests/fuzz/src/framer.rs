//! Checks that a TCP stream in parts yields the messages that the stream has as a whole.

use cloudmap_dns::dns::TCP_OCTETS_MAX;
use cloudmap_dns::dns::tcp::framer::{EmptyMessage, Framer, LENGTH_OCTETS};

/// Cuts a stream into parts, and the parts into messages. The input's first octet is the number of octets after it that
/// describe the parts; they are used repeatedly. The lower seven bits of each are the square root of a part's length, and
/// the highest bit means that the framer holds the part before messages are taken.
pub fn check(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (sizes, mut stream) = rest.split_at(usize::from(*count).min(rest.len()));
    let stream_octets = stream.len();
    let (messages, is_broken) = messages(stream);
    let mut sizes = sizes.iter().cycle();
    let (mut framer, mut seen) = (Framer::default(), 0);
    while !stream.is_empty() {
        let size = sizes.next().copied().unwrap_or(0x7f);
        let octets = usize::from(size & 0x7f).pow(2).clamp(1, stream.len());
        let (mut part, next) = stream.split_at(octets);
        stream = next;
        if size & 0x80 != 0 {
            framer.keep(std::mem::take(&mut part));
        }
        loop {
            match framer.next(&mut part) {
                Ok(Some(message)) => {
                    assert_eq!(Some(message), messages.get(seen).copied());
                    seen += 1;
                }
                Ok(None) => break,
                Err(EmptyMessage) => {
                    assert_eq!((seen, true), (messages.len(), is_broken));
                    return;
                }
            }
        }
        assert!(part.is_empty(), "an incomplete message is held");
        assert!(framer.held() < LENGTH_OCTETS + usize::from(TCP_OCTETS_MAX), "one message at most");
        framer.clear_if_empty();
    }
    assert_eq!((seen, false), (messages.len(), is_broken));
    let handed_out: usize = messages.iter().map(|message| LENGTH_OCTETS + message.len()).sum();
    assert_eq!(framer.held(), stream_octets - handed_out);
}

/// The complete messages of a stream, and true if an empty message ends it, which is an error (RFC 1035 §4.2.2).
fn messages(mut stream: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut messages = Vec::new();
    while let [high, low, rest @ ..] = stream {
        let octets = usize::from(*high) << 8 | usize::from(*low);
        if octets == 0 {
            return (messages, true);
        }
        let Some((message, next)) = rest.split_at_checked(octets) else { break };
        messages.push(message);
        stream = next;
    }
    (messages, false)
}
