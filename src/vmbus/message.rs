//! Control messages as values: those of the guest ([`Request`]) and those of the host ([`Message`]).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::wire::{
    ChannelReference, GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, InitiateContact, MAX_MESSAGE,
    MessageHeader, MessageType, ModifyChannel, ModifyChannelResponse, OfferChannel, OpenChannel, OpenResult,
    TlConnectRequest, TlConnectResult, VersionResponse,
};

/// A message from the guest to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the bodies are documented")]
#[allow(clippy::enum_variant_names, reason = "the names are those of the protocol")]
pub enum Request<'a> {
    InitiateContact(InitiateContact),
    RequestOffers,
    OpenChannel(OpenChannel),
    CloseChannel(ChannelReference),
    /// With the first part of the ranges.
    GpadlHeader(GpadlHeader, &'a [u8]),
    /// With the next part of the ranges.
    GpadlBody(GpadlBody, &'a [u8]),
    GpadlTeardown(GpadlTeardown),
    RelidReleased(ChannelReference),
    Unload,
    TlConnectRequest(TlConnectRequest),
    ModifyChannel(ModifyChannel),
}

/// The reason why bytes are not a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The message is shorter than a header, or longer than a SynIC message.
    #[error("a control message has 8 to 240 bytes, this one {0}")]
    Length(usize),
    /// The body is too short for its type.
    #[error("{message_type} has {needed} bytes at least, this one {length}")]
    Short {
        /// The type in the header.
        message_type: MessageType,
        /// The minimum length of the type.
        needed: usize,
        /// The actual length.
        length: usize,
    },
    /// Guests do not send messages of this type.
    #[error("{0} is not a message of a guest")]
    Type(MessageType),
}

impl<'a> Request<'a> {
    /// Parses a message. Bytes after a body of fixed length are ignored, because later versions append fields.
    ///
    /// # Errors
    /// Returns a [`ParseError`].
    pub fn parse(message: &'a [u8]) -> Result<Self, ParseError> {
        if message.len() > MAX_MESSAGE {
            return Err(ParseError::Length(message.len()));
        }
        let (header, body) = MessageHeader::read_from_prefix(message).map_err(|_| ParseError::Length(message.len()))?;
        let message_type = header.message_type;
        Ok(match message_type {
            MessageType::INITIATE_CONTACT => Self::InitiateContact(read(message_type, body)?.0),
            MessageType::REQUESTOFFERS => Self::RequestOffers,
            MessageType::OPENCHANNEL => Self::OpenChannel(read(message_type, body)?.0),
            MessageType::CLOSECHANNEL => Self::CloseChannel(read(message_type, body)?.0),
            MessageType::GPADL_HEADER => {
                let (body, ranges) = read(message_type, body)?;
                Self::GpadlHeader(body, ranges)
            }
            MessageType::GPADL_BODY => {
                let (body, ranges) = read(message_type, body)?;
                Self::GpadlBody(body, ranges)
            }
            MessageType::GPADL_TEARDOWN => Self::GpadlTeardown(read(message_type, body)?.0),
            MessageType::RELID_RELEASED => Self::RelidReleased(read(message_type, body)?.0),
            MessageType::UNLOAD => Self::Unload,
            MessageType::TL_CONNECT_REQUEST => Self::TlConnectRequest(read(message_type, body)?.0),
            MessageType::MODIFYCHANNEL => Self::ModifyChannel(read(message_type, body)?.0),
            other => return Err(ParseError::Type(other)),
        })
    }
}

fn read<T: FromBytes + KnownLayout + Immutable>(
    message_type: MessageType,
    body: &[u8],
) -> Result<(T, &[u8]), ParseError> {
    T::read_from_prefix(body).map_err(|_| ParseError::Short {
        message_type,
        needed: size_of::<MessageHeader>() + size_of::<T>(),
        length: size_of::<MessageHeader>() + body.len(),
    })
}

/// A message from the host to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the bodies are documented")]
#[allow(clippy::enum_variant_names, reason = "the names are those of the protocol")]
pub enum Message {
    VersionResponse(VersionResponse),
    OfferChannel(OfferChannel),
    AllOffersDelivered,
    RescindChannelOffer(ChannelReference),
    OpenResult(OpenResult),
    GpadlCreated(GpadlCreated),
    GpadlTorndown(GpadlTorndown),
    ModifyChannelResponse(ModifyChannelResponse),
    TlConnectResult(TlConnectResult),
    UnloadResponse,
}

impl Message {
    /// Returns the message as the payload of a SynIC message.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::VersionResponse(body) => message(MessageType::VERSION_RESPONSE, body),
            Self::OfferChannel(body) => message(MessageType::OFFERCHANNEL, body),
            Self::AllOffersDelivered => message(MessageType::ALLOFFERS_DELIVERED, &[0u8; 0]),
            Self::RescindChannelOffer(body) => message(MessageType::RESCIND_CHANNELOFFER, body),
            Self::OpenResult(body) => message(MessageType::OPENCHANNEL_RESULT, body),
            Self::GpadlCreated(body) => message(MessageType::GPADL_CREATED, body),
            Self::GpadlTorndown(body) => message(MessageType::GPADL_TORNDOWN, body),
            Self::ModifyChannelResponse(body) => message(MessageType::MODIFYCHANNEL_RESPONSE, body),
            Self::TlConnectResult(body) => message(MessageType::TL_CONNECT_RESULT, body),
            Self::UnloadResponse => message(MessageType::UNLOAD_RESPONSE, &[0u8; 0]),
        }
    }
}

/// Prepends a header to `body`.
pub fn message(message_type: MessageType, body: &(impl IntoBytes + Immutable + ?Sized)) -> Vec<u8> {
    let header = MessageHeader { message_type, reserved: 0 };
    [header.as_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
