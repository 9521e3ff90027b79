//! Splits a datagram that is longer than the interface takes into fragments, as the kernel does behind its output hook; it sends none.

/// The smallest that every interface takes (RFC 791, RFC 8200).
const LEAST_MTU: usize = 68;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const V6_FRAGMENT_HEADER: usize = 8;
const V6_FRAGMENT: u8 = 44;
/// Headers that every router reads stay in front of the fragment header: hop-by-hop and routing.
const V6_PER_FRAGMENT: [u8; 2] = [0, 43];
const V4_MORE: u16 = 0x2000;
const V4_DONT: u16 = 0x4000;
const V4_OFFSET: u16 = 0x1fff;

/// The packet in pieces of at most `mtu` bytes; `None` when it may not be split or is not understood.
///
/// `number` becomes the identification of an IPv6 packet's fragments.
pub(crate) fn split(packet: &[u8], mtu: usize, number: u32) -> Option<Vec<Vec<u8>>> {
    if mtu < LEAST_MTU {
        return None;
    }
    match packet.first()? >> 4 {
        4 => split_v4(packet, mtu),
        6 => split_v6(packet, mtu, number),
        _ => None,
    }
}

fn split_v4(packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let length = usize::from(packet[0] & 0xf) * 4;
    if length < V4_HEADER || packet.len() <= length {
        return None;
    }
    let flags = u16::from_be_bytes([packet[6], packet[7]]);
    if flags & V4_DONT != 0 {
        return None;
    }
    let (first, more_follow) = (flags & V4_OFFSET, flags & V4_MORE);
    let (header, body) = packet.split_at(length);
    let step = (mtu - length) & !7;
    let pieces = body.chunks(step).enumerate().map(|(index, piece)| {
        let is_last = (index + 1) * step >= body.len();
        let offset = first + u16::try_from(index * step / 8).ok()?;
        let more = if is_last { more_follow } else { V4_MORE };
        let mut fragment = header.to_vec();
        fragment[2..4].copy_from_slice(&u16::try_from(length + piece.len()).ok()?.to_be_bytes());
        fragment[6..8].copy_from_slice(&(offset | more).to_be_bytes());
        // A raw socket computes the header's checksum.
        fragment[10..12].fill(0);
        fragment.extend_from_slice(piece);
        Some(fragment)
    });
    pieces.collect()
}

fn split_v6(packet: &[u8], mtu: usize, number: u32) -> Option<Vec<Vec<u8>>> {
    let (kept, place) = before_fragment(packet)?;
    let next = *packet.get(place)?;
    if next == V6_FRAGMENT {
        return None;
    }
    let (header, body) = packet.split_at_checked(kept)?;
    let step = mtu.checked_sub(kept + V6_FRAGMENT_HEADER)? & !7;
    if step == 0 {
        return None;
    }
    let pieces = body.chunks(step).enumerate().map(|(index, piece)| {
        let is_last = (index + 1) * step >= body.len();
        let offset = u16::try_from(index * step).ok()? | u16::from(!is_last);
        let mut fragment = header.to_vec();
        fragment[place] = V6_FRAGMENT;
        let length = kept - V6_HEADER + V6_FRAGMENT_HEADER + piece.len();
        fragment[4..6].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
        fragment.extend([next, 0]);
        fragment.extend(offset.to_be_bytes());
        fragment.extend(number.to_be_bytes());
        fragment.extend_from_slice(piece);
        Some(fragment)
    });
    pieces.collect()
}

/// How many bytes stand before the fragment header, and where the number of the header behind them stands.
fn before_fragment(packet: &[u8]) -> Option<(usize, usize)> {
    let (mut end, mut place) = (V6_HEADER, 6);
    while V6_PER_FRAGMENT.contains(packet.get(place)?) {
        place = end;
        end += (usize::from(*packet.get(end + 1)?) + 1) * 8;
    }
    (end <= packet.len()).then_some((end, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(flags: u16, body: usize) -> Vec<u8> {
        let mut packet = vec![0_u8; 20];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&u16::try_from(20 + body).unwrap().to_be_bytes());
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        packet.extend((0..body).map(|n| n as u8));
        packet
    }

    #[test]
    fn a_long_datagram_of_version_4_comes_together_again() {
        let packet = v4(0, 5_000);
        let pieces = split(&packet, 1_500, 0).unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= 1_500) && pieces.len() == 4);
        let mut body = vec![0; 5_000];
        for (index, piece) in pieces.iter().enumerate() {
            let field = u16::from_be_bytes([piece[6], piece[7]]);
            assert_eq!(field & V4_MORE != 0, index < 3);
            assert_eq!(usize::from(u16::from_be_bytes([piece[2], piece[3]])), piece.len());
            let at = usize::from(field & V4_OFFSET) * 8;
            body[at..at + piece.len() - 20].copy_from_slice(&piece[20..]);
        }
        assert_eq!(body, packet[20..]);
    }

    #[test]
    fn what_may_not_be_split_is_not() {
        assert_eq!(split(&v4(V4_DONT, 5_000), 1_500, 0), None);
        assert_eq!(split(&v4(0, 5_000), 60, 0), None);
        assert_eq!(split(&[], 1_500, 0), None);
        assert_eq!(split(&[0x60, 0, 0], 1_500, 0), None);
        let again = split(&v4(V4_MORE | 100, 3_000), 1_500, 0).unwrap();
        let last = u16::from_be_bytes([again[2][6], again[2][7]]);
        assert!(
            last & V4_MORE != 0 && last & V4_OFFSET == 100 + 2 * 1_480 / 8,
            "a fragment of a fragment"
        );
    }

    #[test]
    fn a_long_datagram_of_version_6_comes_together_again_behind_its_options() {
        let mut packet = vec![0_u8; 40];
        packet[0] = 0x60;
        packet[6] = 0;
        packet.extend([17, 0, 1, 4, 0, 0, 0, 0]);
        packet.extend((0..4_000).map(|n| n as u8));
        let pieces = split(&packet, 1_280, 9).unwrap();
        let mut body = vec![0; 4_000];
        for (index, piece) in pieces.iter().enumerate() {
            assert!(piece.len() <= 1_280);
            assert_eq!((piece[6], piece[40], piece[48]), (0, V6_FRAGMENT, 17));
            assert_eq!(usize::from(u16::from_be_bytes([piece[4], piece[5]])), piece.len() - 40);
            assert_eq!(piece[52..56], 9_u32.to_be_bytes());
            let field = u16::from_be_bytes([piece[50], piece[51]]);
            assert_eq!(field & 1 == 1, index + 1 < pieces.len());
            let at = usize::from(field & !7);
            body[at..at + piece.len() - 56].copy_from_slice(&piece[56..]);
        }
        assert_eq!(body, packet[48..]);
    }
}
