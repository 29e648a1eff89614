//! Objects that a guest sets.

use zerocopy::FromBytes;

use super::adapter::{Adapter, MAX_MULTICAST};
use super::oid::{Oid, packet_filter};
use super::wire::Status;
use super::{offload, receive_scale};
use crate::net::mac::MacAddress;

/// Maximum length of the keyword and value of a configuration parameter, in bytes.
const MAX_PARAMETER: usize = 255;

impl Adapter {
    /// Sets an object.
    ///
    /// # Errors
    /// Returns the status of the reply, and changes nothing, if the value is invalid.
    pub(super) fn set(&mut self, oid: Oid, information: &[u8]) -> Result<(), Status> {
        match oid {
            Oid::GEN_CURRENT_PACKET_FILTER => self.set_packet_filter(information),
            Oid::ETHERNET_MULTICAST_LIST => self.set_multicast_list(information),
            Oid::ETHERNET_CURRENT_ADDRESS => {
                let address = MacAddress::read_from_bytes(information).map_err(|_| Status::INVALID_LENGTH)?;
                self.set_address(address)
            }
            Oid::GEN_RNDIS_CONFIG_PARAMETER => self.set_parameter(information),
            Oid::TCP_OFFLOAD_PARAMETERS => {
                let supported = self.supported();
                self.offloads.switch(information, &supported).then_some(()).ok_or(Status::INVALID_DATA)
            }
            Oid::OFFLOAD_ENCAPSULATION if offload::is_encapsulation_supported(information) => Ok(()),
            Oid::OFFLOAD_ENCAPSULATION => Err(Status::NOT_SUPPORTED),
            Oid::GEN_RECEIVE_SCALE_PARAMETERS => {
                receive_scale::set(&mut self.scaling, information, self.settings.queues)
            }
            // These have no effect. They are accepted because drivers report an error otherwise.
            Oid::GEN_NETWORK_LAYER_ADDRESSES
            | Oid::GEN_CURRENT_LOOKAHEAD
            | Oid::GEN_PROTOCOL_OPTIONS
            | Oid::GEN_LINK_PARAMETERS => Ok(()),
            _ => Err(Status::NOT_SUPPORTED),
        }
    }

    fn set_packet_filter(&mut self, information: &[u8]) -> Result<(), Status> {
        let (filter, _) = u32::read_from_prefix(information).map_err(|_| Status::INVALID_LENGTH)?;
        if filter & !packet_filter::ALL != 0 {
            return Err(Status::NOT_SUPPORTED);
        }
        self.packet_filter = filter;
        Ok(())
    }

    fn set_multicast_list(&mut self, information: &[u8]) -> Result<(), Status> {
        let list = <[MacAddress]>::ref_from_bytes(information).map_err(|_| Status::INVALID_LENGTH)?;
        if list.len() > MAX_MULTICAST {
            return Err(Status::MULTICAST_FULL);
        }
        if !list.iter().all(MacAddress::is_group) {
            return Err(Status::INVALID_DATA);
        }
        self.multicast = list.to_vec();
        Ok(())
    }

    fn set_address(&mut self, address: MacAddress) -> Result<(), Status> {
        if !address.is_station() {
            return Err(Status::INVALID_DATA);
        }
        self.address = address;
        Ok(())
    }

    /// `RNDIS_CONFIG_PARAMETER_INFO`: a keyword and its value, both in UTF-16, as in the Windows registry.
    fn set_parameter(&mut self, information: &[u8]) -> Result<(), Status> {
        const STRING: u32 = 2;
        let (words, _) = <[u32; 5]>::read_from_prefix(information).map_err(|_| Status::INVALID_LENGTH)?;
        let [name_offset, name_length, kind, value_offset, value_length] = words;
        let keyword = text(information, name_offset, name_length)?;
        if kind != STRING {
            return Ok(());
        }
        let value = text(information, value_offset, value_length)?;
        if keyword == "NetworkAddress" {
            let digits = u64::from_str_radix(&value, 16).ok().filter(|_| value.len() == 12);
            let [_, _, a, b, c, d, e, f] = digits.ok_or(Status::INVALID_DATA)?.to_be_bytes();
            return self.set_address(MacAddress([a, b, c, d, e, f]));
        }
        let digit = value.bytes().next().filter(u8::is_ascii_digit).ok_or(Status::INVALID_DATA)?;
        let supported = self.supported();
        self.offloads.configure(&keyword, digit - b'0', &supported);
        Ok(())
    }
}

/// Returns a UTF-16 string, without a trailing zero.
fn text(information: &[u8], offset: u32, length: u32) -> Result<String, Status> {
    let start = offset as usize;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_PARAMETER).ok_or(Status::INVALID_DATA)?;
    let bytes = start.checked_add(length).and_then(|end| information.get(start..end)).ok_or(Status::INVALID_DATA)?;
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let text = String::from_utf16(&units).map_err(|_| Status::INVALID_DATA)?;
    Ok(text.trim_end_matches('\0').to_string())
}
