//! Pages of a user's conversations.

use super::*;

fn listing() -> Listing {
    User::new("alice").unwrap().into()
}

fn names(listing: &Listing) -> Vec<&str> {
    listing
        .conversations
        .iter()
        .map(|conversation| conversation.conv.as_str())
        .collect()
}

fn at(milliseconds: u64) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_millis(milliseconds))
}

#[test]
fn an_entry_has_a_type_and_a_time_if_they_can_be_read() {
    let mut listing = listing();
    let page = r##"{"Code":0,"List":[
        {"ConvId":"a","UpdateTime":1615186943007,"More":{"x":1}}, {"ConvId":"#b","ConvType":2,"UpdateTime":"7"},
        {"ConvId":"c","ConvType":"0","UpdateTime":-1}, {"ConvId":"d","ConvType":null,"UpdateTime":9e99},
        {"ConvId":12345678901234567890123,"ConvType":"2"}, {"ConvId":"f","UpdateTime":253402300800000},
        {"ConvId":"null"}, {"ConvId":"x","ConvType":1}, {"ConvId":""}, {"ConvId":null}, {}]}"##;
    assert_eq!(listing.take_page(page.as_bytes()), Ok(false));
    let found: Vec<_> = listing
        .conversations
        .iter()
        .map(|found| (found.conv.as_str(), found.conv_type, found.updated_at))
        .collect();
    let (peer, group) = (ConvType::Peer, ConvType::Group);
    assert_eq!(
        found,
        [
            ("a", peer, at(1_615_186_943_007)),
            ("#b", group, at(7)),
            ("c", peer, None),
            ("d", peer, None),
            ("12345678901234567890123", group, None),
            ("f", peer, None),
            ("null", peer, None),
        ]
    );
    assert_eq!(listing.unusable, 4);
    listing.conversations.truncate(4);
    listing.unselected = 3;
    let entries = Entries {
        all: 11,
        unselected: 3,
        unusable: 4,
        repeated: 0,
    };
    assert_eq!(listing.entries(), entries);
}

#[test]
fn the_next_page_begins_where_the_answer_said_with_all_digits() {
    for (next, sent) in [
        ("18446744073709551617", Some("18446744073709551617")),
        ("\"9007199254740993\"", Some("9007199254740993")),
        ("1.50", Some("1.50")),
        ("-3", Some("-3")),
        ("\"a b\"", Some("\"a b\"")),
        ("\"007\"", Some("\"007\"")),
        ("0", None),
        ("\"0\"", None),
        ("0.0", None),
        ("null", None),
        ("false", None),
        ("\"\"", None),
    ] {
        let mut listing = listing();
        let more = listing.take_page(format!(r#"{{"Next":{next}}}"#).as_bytes());
        assert_eq!(more, Ok(sent.is_some()), "{next}");
        assert_eq!(listing.next.get(), sent.unwrap_or("0"), "{next}");
    }
    assert_eq!(listing().take_page(b"\xef\xbb\xbf{\"List\":null}"), Ok(false));
}

#[test]
fn a_conversation_that_comes_twice_is_listed_once_with_its_later_time() {
    let mut listing = listing();
    let page = r#"{"Next":5,"List":[{"ConvId":"a","UpdateTime":1},{"ConvId":"b"},{"ConvId":"a","ConvType":2}]}"#;
    assert_eq!(listing.take_page(page.as_bytes()), Ok(true));
    let page = br#"{"List":[{"ConvId":"c"},{"ConvId":"a","UpdateTime":9}]}"#;
    assert_eq!(listing.take_page(page), Ok(false));
    assert_eq!(names(&listing), ["a", "b", "a", "c"]);
    assert_eq!(listing.conversations[0].updated_at, at(9));
    let entries = Entries {
        all: 5,
        repeated: 1,
        ..Entries::default()
    };
    assert_eq!(listing.entries(), entries);
}

#[test]
fn a_list_that_does_not_end_is_an_error() {
    let page = |next: u32, from: u32, to: u32| {
        let list: Vec<String> = (from..to).map(|conv| format!(r#"{{"ConvId":"{conv}"}}"#)).collect();
        format!(r#"{{"Next":{next},"List":[{}]}}"#, list.join(",")).into_bytes()
    };
    let mut repeats = listing();
    assert_eq!(repeats.take_page(&page(1, 0, 1)), Ok(true));
    assert_eq!(repeats.take_page(&page(1, 1, 2)), Err(PageError::Repeats));

    let mut barren = listing();
    let last = (1..).find(|next| barren.take_page(&page(*next, 0, 1)).is_err());
    assert_eq!(last, Some(MAX_FRUITLESS + 2));

    let mut endless = listing();
    let last = (1..).find(|next| endless.take_page(&page(*next, next * 500, next * 500 + 500)).is_err());
    assert_eq!(last, Some(3));
    // More than 1000 are not an error in themselves: conversations may begin while one pages.
    let mut long = listing();
    assert_eq!(long.take_page(&page(1, 0, 900)), Ok(true));
    assert_eq!(long.take_page(&page(0, 900, 1100)), Ok(false));
    assert_eq!(long.conversations.len(), 1100);
}

#[test]
fn what_is_not_a_list_can_t_be_read() {
    for body in [
        "",
        "[]",
        r#"{"List":7}"#,
        r#"{"List":[7]}"#,
        r#"{"List":{}}"#,
        r#"{"List":["#,
    ] {
        assert_eq!(
            listing().take_page(body.as_bytes()),
            Err(PageError::Unreadable),
            "{body}"
        );
    }
}
