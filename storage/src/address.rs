//! What counts as one address.

use std::net::{IpAddr, Ipv6Addr};

/// The network that a limit counts as one address: an IPv4 address alone, an IPv6 network of 64 bits,
/// because that is what one subscriber is given and may choose any address of.
#[must_use]
pub fn address_bucket(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subscriber_is_one_bucket() {
        let cases = [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2::1", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("::1", "::"),
        ];
        for (address, bucket) in cases {
            let bucket: IpAddr = bucket.parse().unwrap();
            assert_eq!(address_bucket(address.parse().unwrap()), bucket, "{address}");
        }
    }
}
