//! Whether a line that was printed is the one that a page shows: ids, epochs and times differ from
//! run to run.

/// The line without what differs from run to run.
pub(crate) fn bare(line: &str) -> String {
    let mut bare = String::new();
    let mut word = String::new();
    for char in line.trim_end().chars() {
        if char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.') {
            word.push(char);
            continue;
        }
        bare.push_str(of_word(&word));
        word.clear();
        bare.push(char);
    }
    bare.push_str(of_word(&word));
    bare
}

fn of_word(word: &str) -> &str {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    // A sid, a poll id, a UUID.
    let is_random = matches!(word.len(), 22 | 34 | 36);
    let is_time = is_number && word.len() >= 10;
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    // The memory broker has a dash in it, Redis has none.
    let is_epoch = match word.split_once('-') {
        Some((first, second)) => {
            first.len() == 8 && !second.is_empty() && is_hex(first) && is_hex(second)
        }
        None => word.len() >= 11 && is_hex(word),
    };
    if is_random || is_time || is_epoch {
        "…"
    } else {
        word
    }
}

#[test]
fn ids_epochs_and_times_do_not_count() {
    let first = r#"{"sid":"uAra4Z5ZXXNLBuCRxySEFg","epoch":"4a700125-0","offset":1}"#;
    let second = r#"{"sid":"wSN3v8j2Pi97xFC1_O4qDg","epoch":"ffffffff-1a","offset":1}"#;
    assert_eq!(bare(first), bare(second));
    let third = r#"{"sid":"wSN3v8j2Pi97xFC1_O4qDg","epoch":"6b01cfe523c39","offset":1}"#;
    assert_eq!(bare(first), bare(third));
    assert_eq!(bare(first), r#"{"sid":"…","epoch":"…","offset":1}"#);
    let header = "x-anycable-poll-id: ZTJpH3n-AQg.VmseupubVTsDOBjM93YLaQ\r";
    assert_eq!(bare(header), "x-anycable-poll-id: …");
    assert_ne!(bare("offset: 1"), bare("offset: 2"));
}
