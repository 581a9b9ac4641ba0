//! Frames become pieces of messages.

use super::frame::{Header, Opcode, mask};
use super::{Close, Fault, Kind, Sender, Utf8};

/// Reads what one side sends.
#[derive(Clone, Debug)]
pub struct Receiver {
    from: Sender,
    message_bytes_max: u64,
    message: Option<Message>,
    frame: Option<Frame>,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// Bytes of a message.
    Data(Piece<'b>),
    /// A pong is asked for.
    Ping(&'b [u8]),
    /// A ping is answered, or a sign of life.
    Pong(&'b [u8]),
    /// The sender ends the connection; nothing it sends after this counts.
    Close(Option<Close>),
}

/// Bytes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'b> {
    /// What the message contains.
    pub kind: Kind,
    /// The bytes, unmasked. A text's may end inside a character.
    pub payload: &'b [u8],
    /// Whether the message begins with them.
    pub first: bool,
    /// Whether the message ends with them.
    pub last: bool,
    /// The length of the frame that begins with them.
    pub frame_bytes: Option<u64>,
}

#[derive(Clone, Debug)]
struct Message {
    kind: Kind,
    bytes: u64,
    begun: bool,
    utf8: Utf8,
}

/// A data frame whose payload is under way.
#[derive(Clone, Copy, Debug)]
struct Frame {
    fin: bool,
    mask: Option<[u8; 4]>,
    length: u64,
    passed: u64,
}

impl Receiver {
    /// Reads what `from` sends, in messages of at most so many bytes.
    #[must_use]
    pub const fn new(from: Sender, message_bytes_max: u64) -> Self {
        Self { from, message_bytes_max, message: None, frame: None }
    }

    /// Reads the next event from the bytes that came, which it unmasks in place; answers it with how many bytes
    /// it took, or nothing when it needs more than these. It never needs more than a header and a control frame.
    ///
    /// # Errors
    /// The fault for which the connection has to end; nothing may be read after it.
    pub fn next<'b>(&mut self, bytes: &'b mut [u8]) -> Result<Option<(usize, Event<'b>)>, Fault> {
        if let Some(frame) = self.frame {
            return self.data(frame, bytes, 0);
        }
        let Some((header, at)) = Header::read(bytes, self.from)? else { return Ok(None) };
        if header.opcode.is_control() {
            return control(&header, bytes, at);
        }
        let frame = Frame { fin: header.fin, mask: header.mask, length: header.length, passed: 0 };
        let message = self.begin(&header)?;
        // Nothing changes before there is a byte to pass on, so that the header can be read again.
        if header.length > 0 && bytes.len() <= at {
            return Ok(None);
        }
        self.message = Some(message);
        self.data(frame, bytes, at)
    }

    /// The message as it is once this frame has been counted.
    fn begin(&self, header: &Header) -> Result<Message, Fault> {
        let new = |kind| Message { kind, bytes: 0, begun: false, utf8: Utf8::default() };
        let mut message = match (&self.message, header.opcode) {
            (None, Opcode::Text) => new(Kind::Text),
            (None, Opcode::Binary) => new(Kind::Binary),
            (Some(message), Opcode::Continuation) => message.clone(),
            (None, _) => return Err(Fault::Protocol("nothing to continue")),
            (Some(_), _) => return Err(Fault::Protocol("message in a message")),
        };
        message.bytes = message.bytes.saturating_add(header.length);
        // By its header already: nobody has to send the bytes to be refused.
        if message.bytes > self.message_bytes_max {
            return Err(Fault::TooLarge);
        }
        Ok(message)
    }

    fn data<'b>(
        &mut self,
        mut frame: Frame,
        bytes: &'b mut [u8],
        at: usize,
    ) -> Result<Option<(usize, Event<'b>)>, Fault> {
        let Some(message) = self.message.as_mut() else { return Err(Fault::Protocol("nothing to continue")) };
        let left = usize::try_from(frame.length.saturating_sub(frame.passed)).unwrap_or(usize::MAX);
        let payload = bytes.get_mut(at..).unwrap_or_default();
        let taken = payload.len().min(left);
        if taken == 0 && left > 0 {
            return Ok(None);
        }
        let payload = payload.get_mut(..taken).unwrap_or_default();
        if let Some(key) = frame.mask {
            mask(key, usize::try_from(frame.passed % 4).unwrap_or_default(), payload);
        }
        let frame_bytes = (frame.passed == 0).then_some(frame.length);
        frame.passed = frame.passed.saturating_add(taken as u64);
        let whole = frame.passed == frame.length;
        let last = whole && frame.fin;
        if message.kind == Kind::Text {
            message.utf8.piece(payload)?;
            if last {
                message.utf8.end()?;
            }
        }
        let first = !std::mem::replace(&mut message.begun, true);
        let piece = Piece { kind: message.kind, payload, first, last, frame_bytes };
        self.frame = (!whole).then_some(frame);
        if last {
            self.message = None;
        }
        Ok(Some((at.saturating_add(taken), Event::Data(piece))))
    }
}

fn control<'b>(header: &Header, bytes: &'b mut [u8], at: usize) -> Result<Option<(usize, Event<'b>)>, Fault> {
    let end = at.saturating_add(usize::try_from(header.length).unwrap_or(usize::MAX));
    let Some(payload) = bytes.get_mut(at..end) else { return Ok(None) };
    if let Some(key) = header.mask {
        mask(key, 0, payload);
    }
    let event = match header.opcode {
        Opcode::Close => Event::Close(Close::read(payload)?),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        Opcode::Continuation | Opcode::Text | Opcode::Binary => {
            return Err(Fault::Protocol("unknown opcode"));
        }
    };
    Ok(Some((end, event)))
}
