//! Splits a stream of bytes into messages (RFC 1035 §4.2.2, RFC 7766 §8).

/// Length in bytes of the length field before each message.
pub const LENGTH_OCTETS: usize = 2;
/// Largest capacity in bytes of an empty buffer that is kept for the next query; most queries are shorter.
const SPARE_OCTETS_MAX: usize = 512;

/// Splits a stream into messages. Between two inputs it holds at most one incomplete message, which is shorter than 65,537
/// bytes, and the bytes that [`Framer::keep`] added.
#[derive(Debug, Default)]
pub struct Framer {
    held: Vec<u8>,
    at: usize,
}

/// A length of 0 was received. An empty message can't be a query, so the stream is no DNS and nothing after it is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a message of length 0")]
pub struct EmptyMessage;

impl Framer {
    /// The next message, without its length, from the held bytes followed by `input`; its bytes are removed from `input`.
    /// `None` if there is no complete message: then all of `input` was added to the held bytes.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<&'a [u8]>, EmptyMessage> {
        if self.at == self.held.len() {
            self.clear();
            if let Some((frame, rest)) =
                frame_octets(input)?.and_then(|octets| input.split_at_checked(octets))
            {
                *input = rest;
                return Ok(Some(&frame[LENGTH_OCTETS..]));
            }
        }
        if !self.fill(input, LENGTH_OCTETS) {
            return Ok(None);
        }
        let octets = frame_octets(&self.held[self.at..])?.unwrap_or(LENGTH_OCTETS);
        if !self.fill(input, octets) {
            return Ok(None);
        }
        let start = self.at + LENGTH_OCTETS;
        self.at += octets;
        Ok(Some(&self.held[start..self.at]))
    }

    /// Appends bytes to the held ones without looking for a message.
    pub fn keep(&mut self, input: &[u8]) {
        self.compact();
        self.held.extend_from_slice(input);
    }

    /// Number of held bytes that were not returned in a message yet.
    pub fn held(&self) -> usize {
        self.held.len() - self.at
    }

    /// Size in bytes of the memory that is allocated for held bytes.
    pub fn capacity(&self) -> usize {
        self.held.capacity()
    }

    /// Frees the memory, except a small buffer, if no bytes are held.
    pub fn clear_if_empty(&mut self) {
        if self.held() == 0 {
            self.clear();
        }
    }

    fn fill(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.held());
        if missing > 0 {
            let (taken, rest) = input.split_at(missing.min(input.len()));
            self.keep(taken);
            *input = rest;
        }
        missing == 0 || self.held() == wanted
    }

    fn compact(&mut self) {
        if self.at > 0 {
            self.held.drain(..self.at);
            self.at = 0;
        }
    }

    fn clear(&mut self) {
        self.at = 0;
        if self.held.capacity() > SPARE_OCTETS_MAX {
            self.held = Vec::new();
        } else {
            self.held.clear();
        }
    }
}

/// Length in bytes of the message at the start, including its length field; `None` if that field is incomplete.
fn frame_octets(octets: &[u8]) -> Result<Option<usize>, EmptyMessage> {
    match octets.first_chunk::<LENGTH_OCTETS>().map(|length| u16::from_be_bytes(*length)) {
        None => Ok(None),
        Some(0) => Err(EmptyMessage),
        Some(length) => Ok(Some(LENGTH_OCTETS + usize::from(length))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let frame = |message: &Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], message].concat();
        messages.iter().flat_map(frame).collect()
    }

    fn cut<'p>(parts: impl Iterator<Item = &'p [u8]>, keeps: bool) -> Result<Vec<Vec<u8>>, EmptyMessage> {
        let (mut framer, mut messages) = (Framer::default(), Vec::new());
        for part in parts {
            let mut input = part;
            if keeps {
                framer.keep(std::mem::take(&mut input));
            }
            while let Some(message) = framer.next(&mut input)? {
                messages.push(message.to_vec());
            }
            assert!(input.is_empty());
            assert!(framer.held() < LENGTH_OCTETS + 65_535);
        }
        Ok(messages)
    }

    #[test]
    fn longest_message_is_returned_whole_and_its_memory_is_freed() {
        let messages = vec![vec![7; 65_535], vec![8]];
        let stream = framed(&messages);
        assert_eq!(cut(stream.chunks(1000), false).unwrap(), messages);
        let mut framer = Framer::default();
        let (mut first, mut rest) = stream.split_at(60_000);
        assert_eq!(framer.next(&mut first), Ok(None));
        assert_eq!(framer.held(), 60_000);
        assert_eq!(framer.next(&mut rest), Ok(Some(&messages[0][..])));
        assert_eq!(framer.next(&mut rest), Ok(Some(&messages[1][..])));
        assert_eq!(framer.next(&mut rest), Ok(None));
        assert_eq!((framer.held(), framer.capacity()), (0, 0));
    }

    #[test]
    fn length_field_alone_allocates_no_memory_for_the_message() {
        let mut framer = Framer::default();
        assert_eq!(framer.next(&mut &[0xff, 0xff, 1][..]), Ok(None));
        assert!(framer.capacity() < 100);
    }

    #[test]
    fn empty_message_is_an_error_also_after_valid_messages() {
        assert_eq!(cut([&[0, 0][..]].into_iter(), false), Err(EmptyMessage));
        assert_eq!(cut([&[0][..], &[0]].into_iter(), false), Err(EmptyMessage));
        assert_eq!(cut([&[0, 1, 9, 0, 0][..]].into_iter(), true), Err(EmptyMessage));
    }

    proptest! {
        #[test]
        fn messages_are_restored_wherever_the_stream_is_split(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..700), 0..20),
            part in 1usize..2000,
            keeps in any::<bool>(),
        ) {
            let stream = framed(&messages);
            prop_assert_eq!(cut(stream.chunks(part), keeps).unwrap(), messages);
        }

        #[test]
        fn no_bytes_make_the_framer_panic(stream in proptest::collection::vec(any::<u8>(), 0..5000), part in 1usize..300) {
            let _ = cut(stream.chunks(part), false);
        }
    }
}
