//! The queue before password hashing.

use tokio::sync::oneshot;

use super::*;

/// Threat 11: the queue is bounded, and one address cannot fill it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hashing_gate_is_bounded_and_shared() {
    let settings = HashingGateSettings { concurrency: 1, places_max: 4, per_address_max: 2 };
    let gate = HashingGate::new(settings);
    let [first, second, third]: [IpAddr; 3] =
        ["192.0.2.1", "2001:db8::1", "192.0.2.3"].map(|text| text.parse().unwrap());
    let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
    let mut running = Vec::new();
    for client in [first, first, second, neighbour] {
        let (release, released) = oneshot::channel::<()>();
        let (gate, (entered, has_entered)) = (gate.clone(), oneshot::channel());
        let task = tokio::spawn(async move {
            let mut run = std::pin::pin!(gate.run(client, move || released.blocking_recv().is_ok()));
            // Polled once, so its place is taken when the next one comes.
            let polled =
                std::future::poll_fn(|context| std::task::Poll::Ready(run.as_mut().poll(context))).await;
            assert!(polled.is_pending());
            entered.send(()).unwrap();
            run.await
        });
        has_entered.await.unwrap();
        running.push((task, release));
    }
    let busy = |client| gate.run(client, || ());
    assert!(matches!(busy(first).await, Err(GateError::Busy { retry_after_s: 1 })), "its share is full");
    assert!(matches!(busy(third).await, Err(GateError::Busy { .. })), "the queue is full");
    let (abandoned, _) = running.pop().unwrap();
    abandoned.abort();
    assert!(abandoned.await.is_err());
    assert!(matches!(busy(first).await, Err(GateError::Busy { .. })), "its share is still full");
    let third = tokio::spawn({
        let gate = gate.clone();
        async move { gate.run(third, || 7).await }
    });
    for (task, release) in running {
        release.send(()).unwrap();
        assert_eq!(task.await.unwrap(), Ok(true));
    }
    assert_eq!(third.await.unwrap(), Ok(7), "a place that was given back");
    assert_eq!(gate.run(first, || 7).await, Ok(7));
    let panicked = gate.run(first, || panic!("a hash that panics")).await;
    assert_eq!(panicked.map(|(): ()| ()), Err(GateError::Interrupted));
    assert_eq!(gate.run(first, || 7).await, Ok(7), "and leaves no place taken");
}
