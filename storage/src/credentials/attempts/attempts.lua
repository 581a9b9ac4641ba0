-- Attempts to sign in, counted for all gateways: the arithmetic of credentials/attempts/counter.rs, and a property holds one
-- to the other. The script of the sessions goes on below, and KEYS[1] and ARGV[1] are what they are there. ARGV[2]: milliseconds
-- since 1970, or nothing for this server's own time, which is the same for all gateways.
--
-- ARGV[3]: N. ARGV[4]: how long a lock lasts. ARGV[5] and ARGV[6]: the first wait and the longest. ARGV[7]: after how long
-- without an attempt failures are forgotten; all in milliseconds. ARGV[8]: how many counters there may be. ARGV[9..]: the
-- places of one counter, the active master key's first.
if string.sub(ARGV[1], 1, 8) == 'attempt.' then
  local base, verb, now = KEYS[1], string.sub(ARGV[1], 9), tonumber(ARGV[2])
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local max, lockout, forgotten_after = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[7])
  local weights, ends = base .. ':tw', base .. ':te'
  local lock_at = 2 * max
  -- Keys stay this much longer than they are needed for, because the server's clock may be set, in milliseconds.
  local SLACK = 600000
  -- What is tidied up beside one attempt, at most.
  local TIDIED = 8

  local function total(counter)
    return counter.failures + counter.hurried
  end

  local function read(place)
    local found = redis.call('HMGET', base .. ':t:' .. place, 'failures', 'hurried', 'last', 'locked')
    if not found[4] then
      return nil
    end
    return {
      failures = tonumber(found[1]), hurried = tonumber(found[2]), last = tonumber(found[3]), locked = tonumber(found[4]),
    }
  end

  local function drop(place)
    redis.call('ZREM', weights, place)
    redis.call('ZREM', ends, place)
    return redis.call('DEL', base .. ':t:' .. place)
  end

  local function whole(number)
    return string.format('%.0f', number)
  end

  -- The counter first: a memory that is full refuses it, and then nothing was done.
  local function write(place, counter)
    local key = base .. ':t:' .. place
    redis.call('HSET', key, 'failures', whole(counter.failures), 'hurried', whole(counter.hurried),
      'last', whole(counter.last), 'locked', whole(counter.locked))
    local left = math.max(forgotten_after - (now - counter.last), counter.locked - now) + SLACK
    redis.call('PEXPIRE', key, whole(left))
    -- What would be lost: the failures, and of as many the later. Both together stay below 2^53.
    redis.call('ZADD', weights, whole(math.min(total(counter), 2047) * 4398046511104 + counter.last), place)
    redis.call('ZADD', ends, whole(now + left), place)
    for _, index in ipairs({ weights, ends }) do
      if redis.call('PTTL', index) < left then
        redis.call('PEXPIRE', index, whole(left))
      end
    end
    for _, old in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', '(' .. whole(now), 'LIMIT', 0, TIDIED)) do
      drop(old)
    end
    local over = math.min(redis.call('ZCOUNT', weights, '-inf', '+inf') - tonumber(ARGV[8]), TIDIED)
    if over > 0 then
      for _, light in ipairs(redis.call('ZRANGE', weights, 0, over)) do
        if over > 0 and light ~= place then
          drop(light)
          over = over - 1
        end
      end
    end
  end

  -- What time has done to it.
  local function settle(counter)
    counter.last = math.min(counter.last, now)
    counter.locked = math.min(counter.locked, now + lockout)
    if now < counter.locked then
      return
    end
    if total(counter) >= lock_at then
      counter.failures, counter.hurried = max, 0
    end
    if now - counter.last >= forgotten_after then
      counter.failures, counter.hurried = 0, 0
    end
  end

  local function lock(counter)
    if total(counter) >= lock_at then
      counter.locked = now + lockout
    end
  end

  -- Answers what became of it (0: granted, 1: slow, 2: locked), a number about that (milliseconds that are left), and which
  -- place it is counted at.
  if verb == 'reserve' then
    local index, counter = 9, nil
    for at = 9, #ARGV do
      counter = read(ARGV[at])
      if counter then
        index = at
        break
      end
    end
    counter = counter or { failures = 0, hurried = 0, last = now, locked = 0 }
    settle(counter)
    if now < counter.locked then
      return { 2, counter.locked - now, index - 9 }
    end
    local wait = 0
    if counter.failures >= max then
      wait = math.min(tonumber(ARGV[5]) * 2 ^ math.min(counter.failures - max, 16), tonumber(ARGV[6]))
    end
    local waited = now - counter.last
    if waited < wait then
      counter.hurried = counter.hurried + 1
      lock(counter)
      write(ARGV[index], counter)
      if now < counter.locked then
        return { 2, counter.locked - now, index - 9 }
      end
      return { 1, wait - waited, index - 9 }
    end
    counter.failures = counter.failures + 1
    counter.last = now
    lock(counter)
    write(ARGV[index], counter)
    return { 0, counter.failures >= max and 1 or 0, index - 9 }
  end

  -- ARGV[9]: where an attempt was counted that did not happen.
  if verb == 'give_back' then
    local counter = read(ARGV[9])
    if not counter then
      return 0
    end
    counter.failures = math.max(0, counter.failures - 1)
    if total(counter) < lock_at then
      counter.locked = 0
    end
    write(ARGV[9], counter)
    return 1
  end

  -- Answers how many there were.
  if verb == 'forget' then
    local were = 0
    for at = 9, #ARGV do
      were = were + drop(ARGV[at])
    end
    return were
  end

  if verb == 'count' then
    return redis.call('ZCOUNT', weights, '-inf', '+inf')
  end

  return redis.error_reply('ERR unknown verb')
end
