//! A port's guarantees to a single thread: order, bounds, pools, credit, and wake-ups.
#![cfg(not(loom))]

use ring::{Block, Capacity, Item, Lane, Parked, Port, mesh};

const SMALL: Capacity = Capacity { data_items: 2, control_items: 4, block_bytes: 16 };

fn pair(capacity: Capacity) -> (Port<u32>, Port<u32>) {
    let mut ports = mesh(2, capacity).into_iter();
    (ports.next().expect("two shards"), ports.next().expect("two shards"))
}

fn filled(port: &mut Port<u32>, target: usize, bytes: &[u8]) -> Item<u32> {
    let mut block = port.empty_block(target, Lane::Data);
    assert!(block.is_empty(), "a recycled block is empty");
    block.as_mut().extend_from_slice(bytes);
    Item::Block(block)
}

fn popped_block(port: &mut Port<u32>, source: usize) -> Block {
    match port.pop(source, Lane::Data) {
        Some(Item::Block(block)) => block,
        other => panic!("expected a block, found {other:?}"),
    }
}

#[test]
fn a_port_reports_its_shard_and_the_others() {
    let ports = mesh::<u32>(3, SMALL);
    for (shard, port) in ports.iter().enumerate() {
        assert_eq!((port.own(), port.shard_count()), (shard, 3));
        assert_eq!(
            port.others().collect::<Vec<_>>(),
            (0..3).filter(|&other| other != shard).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_port_can_move_to_its_thread() {
    fn moves<V: Send>() {}
    moves::<Port<Vec<u8>>>();
}

#[test]
fn every_ordered_pair_has_two_lanes_of_its_own() {
    let mut ports = mesh::<u32>(3, SMALL);
    let lanes = || {
        (0..3u32).flat_map(|source| {
            (0..3u32).filter(move |&target| target != source).map(move |target| (source, target))
        })
    };
    for (source, target) in lanes() {
        let port = &mut ports[source as usize];
        port.push(target as usize, Lane::Data, Item::Other(source * 10 + target)).unwrap();
        port.push(target as usize, Lane::Control, Item::Other(100 + source * 10 + target)).unwrap();
    }
    for (source, target) in lanes() {
        let port = &mut ports[target as usize];
        assert_eq!(port.pop(source as usize, Lane::Control), Some(Item::Other(100 + source * 10 + target)));
        assert_eq!(port.pop(source as usize, Lane::Data), Some(Item::Other(source * 10 + target)));
    }
    assert!(ports.iter().all(Port::is_idle));
}

#[test]
fn blocks_and_others_keep_one_order() {
    let (mut first, mut second) = pair(SMALL);
    let block = filled(&mut first, 1, b"before");
    first.push(1, Lane::Data, block).unwrap();
    first.push(1, Lane::Data, Item::Other(7)).unwrap();
    let block = popped_block(&mut second, 0);
    assert_eq!(&block[..], b"before");
    second.give_back(0, Lane::Data, block);
    assert_eq!(second.pop(0, Lane::Data), Some(Item::Other(7)));
    assert_eq!(second.pop(0, Lane::Data), None);
}

#[test]
fn a_full_lane_returns_the_item_and_the_other_lane_still_accepts() {
    let (mut first, mut second) = pair(SMALL);
    first.push(1, Lane::Data, Item::Other(1)).unwrap();
    first.push(1, Lane::Data, Item::Other(2)).unwrap();
    assert_eq!(first.free(1, Lane::Data), 0);
    let refused = filled(&mut first, 1, b"kept");
    let Err(Item::Block(kept)) = first.push(1, Lane::Data, refused) else { panic!("the lane is full") };
    assert_eq!(&kept[..], b"kept");
    assert_eq!(first.push(1, Lane::Data, Item::Other(3)), Err(Item::Other(3)));

    assert_eq!(first.free(1, Lane::Control), 4);
    first.push(1, Lane::Control, Item::Other(9)).unwrap();
    assert_eq!(first.free(1, Lane::Control), 3);

    assert_eq!(second.pop(0, Lane::Data), Some(Item::Other(1)));
    assert_eq!(first.free(1, Lane::Data), 1);
    first.push(1, Lane::Data, Item::Block(kept)).unwrap();
}

#[test]
fn blocks_are_made_on_demand_and_never_exceed_the_ring_plus_two() {
    let (mut first, mut second) = pair(SMALL);
    assert_eq!(first.blocks_alive(1, Lane::Data), 0, "an idle mesh has no block");
    let slot = size_of::<Item<u32>>();
    assert!(first.slot_bytes() >= (SMALL.data_items + SMALL.control_items) * slot);
    for round in 0..100u8 {
        // The largest number of blocks: one being read, a full ring, and one being filled.
        let block = filled(&mut first, 1, &[round]);
        first.push(1, Lane::Data, block).unwrap();
        let reading = popped_block(&mut second, 0);
        for _ in 0..SMALL.data_items {
            let block = filled(&mut first, 1, &[round]);
            first.push(1, Lane::Data, block).unwrap();
        }
        let refused = filled(&mut first, 1, &[round]);
        let Err(Item::Block(filling)) = first.push(1, Lane::Data, refused) else {
            panic!("the lane is full")
        };
        assert_eq!(first.blocks_alive(1, Lane::Data), SMALL.data_items + 2);

        assert_eq!(&reading[..], [round]);
        second.give_back(0, Lane::Data, reading);
        for _ in 0..SMALL.data_items {
            let block = popped_block(&mut second, 0);
            assert_eq!(&block[..], [round]);
            second.give_back(0, Lane::Data, block);
        }
        first.push(1, Lane::Data, Item::Block(filling)).unwrap();
        let block = popped_block(&mut second, 0);
        second.give_back(0, Lane::Data, block);
    }
    assert_eq!(first.blocks_alive(1, Lane::Data), SMALL.data_items + 2);
    assert_eq!(first.blocks_alive(1, Lane::Control), 0);
    assert_eq!((first.blocks_alive_in_all(), second.blocks_alive_in_all()), (SMALL.data_items + 2, 0));
    assert_eq!(first.trim(), SMALL.data_items + 2);
    assert_eq!(first.blocks_alive_in_all(), 0);
    assert_eq!((first.blocks_alive(1, Lane::Data), first.trim()), (0, 0));
}

#[test]
fn a_nearly_empty_lane_reuses_one_block() {
    let (mut first, mut second) = pair(SMALL);
    for _ in 0..10 {
        let block = filled(&mut first, 1, b"x");
        first.push(1, Lane::Data, block).unwrap();
        let block = popped_block(&mut second, 0);
        second.give_back(0, Lane::Data, block);
    }
    assert_eq!(first.blocks_alive(1, Lane::Data), 1);
}

#[test]
fn items_left_in_lanes_are_dropped_with_the_mesh() {
    use std::rc::Rc;

    let payload = Rc::new(());
    let mut ports = mesh::<Rc<()>>(2, SMALL);
    ports[0].push(1, Lane::Data, Item::Other(Rc::clone(&payload))).unwrap();
    ports[1].push(0, Lane::Control, Item::Other(Rc::clone(&payload))).unwrap();
    assert_eq!(Rc::strong_count(&payload), 3);
    drop(ports);
    assert_eq!(Rc::strong_count(&payload), 1);
}

#[test]
fn acknowledgements_are_cumulative_and_need_no_slot() {
    let (mut first, mut second) = pair(SMALL);
    for count in 0..1_000 {
        second.acknowledge(0, count);
    }
    assert_eq!(first.acknowledged(1), 999);
    assert_eq!(second.acknowledged(0), 0, "each direction has its own counter");
    assert!(first.is_idle());
    first.acknowledge(1, 5);
    assert_eq!((first.acknowledged(1), second.acknowledged(0)), (999, 5));
}

#[test]
fn a_sleeping_shard_is_woken_once_by_the_first_sender() {
    let mut ports = mesh::<u32>(3, SMALL);
    ports[2].unpark();
    assert_eq!(ports[2].park(), Parked::Sleep);

    assert!(!ports[0].wake_needed(2), "no work was made for it");
    ports[0].push(2, Lane::Data, Item::Other(1)).unwrap();
    ports[0].push(2, Lane::Control, Item::Other(2)).unwrap();
    assert!(ports[0].wake_needed(2));
    assert!(!ports[0].wake_needed(2));
    ports[1].push(2, Lane::Data, Item::Other(3)).unwrap();
    assert!(!ports[1].wake_needed(2), "the first one already rings");

    ports[2].unpark();
    assert_eq!(ports[2].park(), Parked::Work);
    ports[0].push(2, Lane::Control, Item::Other(4)).unwrap();
    assert!(!ports[0].wake_needed(2), "a shard that is awake is not rung");
}

#[test]
fn each_kind_of_work_keeps_a_shard_awake() {
    let (mut first, mut second) = pair(SMALL);
    for lane in Lane::ALL {
        first.push(1, lane, Item::Other(1)).unwrap();
        second.unpark();
        assert_eq!(second.park(), Parked::Work, "{lane:?}");
        assert!(second.pop(0, lane).is_some());
        assert!(!second.wake_needed(0));
        assert_eq!(second.park(), Parked::Sleep, "{lane:?}");
    }
    assert!(first.wake_needed(1));
    first.acknowledge(1, 1);
    second.unpark();
    assert_eq!(second.park(), Parked::Work, "an acknowledgement");
    assert_eq!(second.park(), Parked::Sleep, "an acknowledgement counts once, even if nobody read it");

    first.acknowledge(1, 2);
    assert!(first.wake_needed(1), "an acknowledgement wakes too");
    second.unpark();
    assert_eq!(second.acknowledged(0), 2);
    assert_eq!(second.park(), Parked::Sleep, "an acknowledgement that was read is not work");
    first.acknowledge(1, 2);
    assert!(!first.wake_needed(1), "a repeated acknowledgement is not work");
}

#[test]
fn a_shard_waiting_for_credit_is_woken_by_the_pop_that_frees_a_slot() {
    let (mut first, mut second) = pair(SMALL);
    first.push(1, Lane::Data, Item::Other(1)).unwrap();
    first.push(1, Lane::Data, Item::Other(2)).unwrap();
    assert!(!first.wake_needed(1));
    assert_eq!(first.park(), Parked::Sleep);
    second.unpark();
    assert_eq!(second.pop(0, Lane::Data), Some(Item::Other(1)));
    assert!(!second.wake_needed(0), "the first shard sleeps, but wants no credit");

    first.unpark();
    first.want_credit(1, Lane::Data, 3);
    first.want_credit(1, Lane::Data, 2);
    assert_eq!(first.park(), Parked::Sleep, "one is free, two are wanted");
    assert_eq!(second.pop(0, Lane::Data), Some(Item::Other(2)));
    assert!(second.wake_needed(0));

    first.unpark();
    first.want_credit(1, Lane::Data, 2);
    assert_eq!(first.park(), Parked::Work, "the wanted credit is there");
    first.unpark();
    assert_eq!(first.park(), Parked::Sleep, "a credit request lasts until the next turn");
    first.unpark();
    assert!(!second.wake_needed(0));
}

#[test]
fn replies_fit_into_their_reserved_slots() {
    const REPLIES_MAX: usize = 2;
    let (mut asks, mut answers) = pair(SMALL);
    // The reply's lane holds as many other items as its producer may push.
    while answers.free(0, Lane::Control) > REPLIES_MAX {
        answers.push(0, Lane::Control, Item::Other(0)).unwrap();
    }
    for request in 1..=2 {
        asks.push(1, Lane::Control, Item::Other(request)).unwrap();
    }
    for _ in 0..REPLIES_MAX {
        let Some(Item::Other(request)) = answers.pop(0, Lane::Control) else {
            panic!("a request was pushed")
        };
        answers.push(0, Lane::Control, Item::Other(request + 10)).expect("a reply always fits");
    }
    let mut replies = Vec::new();
    while let Some(Item::Other(reply)) = asks.pop(1, Lane::Control) {
        replies.push(reply);
    }
    assert_eq!(replies, [0, 0, 11, 12]);
}

#[test]
fn a_single_shard_can_sleep() {
    let mut ports = mesh::<u32>(1, SMALL);
    ports[0].unpark();
    assert_eq!(ports[0].park(), Parked::Sleep);
    assert!(ports[0].is_idle());
    assert_eq!((ports[0].others().count(), ports[0].trim()), (0, 0));
}

/// Misuse is a bug of ours, never a peer's input: each case panics where it happens.
mod misuse {
    use super::*;

    #[test]
    #[should_panic(expected = "a process has at least one shard")]
    fn a_mesh_of_no_shard() {
        drop(mesh::<u32>(0, SMALL));
    }

    #[test]
    #[should_panic(expected = "is not valid")]
    fn a_lane_without_slots() {
        drop(mesh::<u32>(2, Capacity { control_items: 0, ..SMALL }));
    }

    #[test]
    #[should_panic(expected = "a shard has no lane to itself")]
    fn a_push_to_oneself() {
        let (mut first, _second) = pair(SMALL);
        drop(first.push(0, Lane::Data, Item::Other(1)));
    }

    #[test]
    #[should_panic(expected = "the previous block must be pushed first")]
    fn a_second_block_before_the_first_was_pushed() {
        let (mut first, _second) = pair(SMALL);
        let _held = first.empty_block(1, Lane::Data);
        drop(first.empty_block(1, Lane::Data));
    }

    #[test]
    #[should_panic(expected = "a block must be pushed to the lane it was taken from")]
    fn a_block_pushed_to_another_lane() {
        let (mut first, _second) = pair(SMALL);
        let block = first.empty_block(1, Lane::Data);
        drop(first.push(1, Lane::Control, Item::Block(block)));
    }

    #[test]
    #[should_panic(expected = "a block must not exceed the size it was made with")]
    fn a_block_filled_beyond_its_bytes() {
        let (mut first, _second) = pair(SMALL);
        let block = filled(&mut first, 1, &[0; 17]);
        drop(first.push(1, Lane::Data, block));
    }

    #[test]
    #[should_panic(expected = "a block must be given back before the next pop")]
    fn a_pop_while_a_block_is_out() {
        let (mut first, mut second) = pair(SMALL);
        let block = filled(&mut first, 1, b"x");
        first.push(1, Lane::Data, block).unwrap();
        let _held = popped_block(&mut second, 0);
        second.pop(0, Lane::Data);
    }

    #[test]
    #[should_panic(expected = "a block must be given back to the lane it was popped from")]
    fn a_block_given_back_to_another_lane() {
        let (mut first, mut second) = pair(SMALL);
        let block = filled(&mut first, 1, b"x");
        first.push(1, Lane::Data, block).unwrap();
        let block = popped_block(&mut second, 0);
        second.give_back(0, Lane::Control, block);
    }

    #[test]
    #[should_panic(expected = "an acknowledgement is never taken back")]
    fn a_smaller_acknowledgement() {
        let (mut first, _second) = pair(SMALL);
        first.acknowledge(1, 2);
        first.acknowledge(1, 1);
    }

    #[test]
    #[should_panic(expected = "a turn begins with unpark")]
    fn a_turn_without_unpark() {
        let (mut first, _second) = pair(SMALL);
        assert_eq!(first.park(), Parked::Sleep);
        let _again = first.park();
    }

    #[test]
    #[should_panic(expected = "wake_needed must be called for every shard that work was made for")]
    fn parking_before_wake_needed() {
        let (mut first, _second) = pair(SMALL);
        first.push(1, Lane::Data, Item::Other(1)).unwrap();
        let _asleep = first.park();
    }

    #[test]
    #[should_panic(expected = "waiting for zero items is pointless")]
    fn wanting_credit_for_zero_items() {
        let (mut first, _second) = pair(SMALL);
        first.want_credit(1, Lane::Data, 0);
    }
}
