//! A stream of octets, cut into messages (RFC 1035 §4.2.2, RFC 7766 §8).

/// Octets of the length before each message.
pub const LENGTH_OCTETS: usize = 2;
/// What is kept of a buffer that has become empty, in octets: most queries are smaller.
const SPARE_OCTETS_MAX: usize = 512;

/// Cuts a stream into messages. What it holds between two inputs is at most one message that is not complete, 65,536
/// octets, and what [`Framer::keep`] was given.
#[derive(Debug, Default)]
pub struct Framer {
    held: Vec<u8>,
    /// Where the next message begins in `held`; what is before it was handed out.
    at: usize,
}

/// A message of no octets was announced. It can't be a query, and nothing that follows is to be trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a message of no octets")]
pub struct EmptyMessage;

impl Framer {
    /// The next message, without its length, out of what is held and then out of `input`, from which it is taken away.
    /// `None` when there is no complete one: then all of `input` is held.
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

    /// Holds octets for later, behind those that are held.
    pub fn keep(&mut self, input: &[u8]) {
        self.compact();
        self.held.extend_from_slice(input);
    }

    /// How many octets are held that were not handed out.
    pub fn held(&self) -> usize {
        self.held.len() - self.at
    }

    /// Octets of memory that are taken for them.
    pub fn capacity(&self) -> usize {
        self.held.capacity()
    }

    /// Gives memory back when nothing is held.
    pub fn clear_if_empty(&mut self) {
        if self.held() == 0 {
            self.clear();
        }
    }

    /// Moves octets over until this many are held, and says whether they are.
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
        match self.held.capacity() > SPARE_OCTETS_MAX {
            true => self.held = Vec::new(),
            false => self.held.clear(),
        }
    }
}

/// The octets of the message at the start, with its length; `None` when that is not there yet.
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

    /// The messages of a stream that comes in parts.
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
    fn a_message_of_65535_octets_is_one_and_its_memory_is_given_back() {
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
    fn an_announced_length_takes_no_memory_before_its_octets_come() {
        let mut framer = Framer::default();
        assert_eq!(framer.next(&mut &[0xff, 0xff, 1][..]), Ok(None));
        assert!(framer.capacity() < 100);
    }

    #[test]
    fn a_message_of_no_octets_is_an_error_also_after_good_ones() {
        assert_eq!(cut([&[0, 0][..]].into_iter(), false), Err(EmptyMessage));
        assert_eq!(cut([&[0][..], &[0]].into_iter(), false), Err(EmptyMessage));
        assert_eq!(cut([&[0, 1, 9, 0, 0][..]].into_iter(), true), Err(EmptyMessage));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_wherever_the_stream_is_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..700), 0..20),
            part in 1usize..2000,
            keeps in any::<bool>(),
        ) {
            let stream = framed(&messages);
            prop_assert_eq!(cut(stream.chunks(part), keeps).unwrap(), messages);
        }

        #[test]
        fn any_octets_are_cut_or_refused(stream in proptest::collection::vec(any::<u8>(), 0..5000), part in 1usize..300) {
            let _ = cut(stream.chunks(part), false);
        }
    }
}
