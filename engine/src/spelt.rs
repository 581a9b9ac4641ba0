//! Texts that every request spells several times, without the machinery that formats whatever it is given.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Appends a number in decimal.
pub fn number(text: &mut String, value: u64) {
    text.push_str(itoa::Buffer::new().format(value));
}

/// Appends an address as it is displayed.
pub fn address(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push('.');
                }
                number(text, octet.into());
            }
        }
        // Writing into a `String` does not fail.
        IpAddr::V6(address) => write!(text, "{address}").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_spelt_as_it_is_displayed(value in any::<u64>(), small in 0_u64..300, ip in any::<IpAddr>()) {
            let spelt = |spell: &dyn Fn(&mut String)| {
                let mut text = "before ".to_owned();
                spell(&mut text);
                text
            };
            for value in [value, small, 0, u64::MAX] {
                prop_assert_eq!(spelt(&|text| number(text, value)), format!("before {value}"));
            }
            prop_assert_eq!(spelt(&|text| address(text, ip)), format!("before {ip}"));
        }
    }
}
