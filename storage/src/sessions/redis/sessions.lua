-- All that is done with sessions, each verb whole or not at all. sessions/redis/mod.rs says what lies under which key.
--
-- KEYS[1]: what every key begins with, its hash tag included: all of them lie on one node. ARGV[1]: the verb. ARGV[2]: the
-- caller's milliseconds since 1970. A place is the keyed digest of a session's secret, in hexadecimal.
--
-- An end deletes before it writes anything: a server whose memory is full lets it, and what fails half-way fails closed.
local base, verb, now = KEYS[1], ARGV[1], tonumber(ARGV[2])
local ends_key, channel = base .. ':ends', base .. ':ended'
-- Keys stay this much longer than they are needed for, because clocks differ, in milliseconds.
local SLACK = 600000

local function when_ends(id)
  return tonumber(redis.call('ZSCORE', ends_key, id) or '0')
end

-- A key that others share lives as long as the longest of them.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, string.format('%.0f', ttl))
  end
end

-- Closes a place until no session there could live: none begins in it, and none that is written back is read.
local function close(place, ends)
  local left = math.max(0, (tonumber(ends or '') or now) - now) + SLACK
  redis.call('SET', base .. ':x:' .. place, '1', 'PX', string.format('%.0f', left))
end

local function is_closed(place)
  return redis.call('EXISTS', base .. ':x:' .. place) == 1
end

-- Ends a session. Answers where it was, and its record and last use; nothing where there was none.
local function finish(id)
  redis.call('DEL', base .. ':h:' .. id)
  local place = redis.call('GET', base .. ':i:' .. id)
  if not place then
    redis.call('ZREM', ends_key, id)
    return nil
  end
  local record = base .. ':s:' .. place
  local found = redis.call('HMGET', record, 'record', 'touch', 'account', 'provider', 'end')
  redis.call('DEL', record, base .. ':i:' .. id)
  redis.call('ZREM', ends_key, id)
  if found[3] then
    redis.call('ZREM', base .. ':a:' .. found[3], id)
  end
  if found[4] and found[4] ~= '' then
    redis.call('SREM', base .. ':p:' .. found[4], id)
  end
  close(place, found[5])
  return { place, found[1], found[2] }
end

-- The same, and tells every gateway.
local function finish_aloud(id)
  local place = redis.call('GET', base .. ':i:' .. id)
  if place then
    -- First, so that where it may not be told nothing ends unheard: what is refused here undoes nothing.
    redis.call('PUBLISH', channel, place .. ' ' .. id)
  end
  return finish(id)
end

local function read(place)
  if is_closed(place) then
    return false
  end
  local found = redis.call('HMGET', base .. ':s:' .. place, 'record', 'touch')
  return found[1] and { place, found[1], found[2] } or nil
end

-- Ends these, and answers of each its id, its place, and whether it was live until now.
local function finish_all(ids)
  local answer = {}
  for _, id in ipairs(ids) do
    local live = when_ends(id) > now and 1 or 0
    local ended = finish_aloud(id)
    if ended then
      answer[#answer + 1] = { id, ended[1], live }
    end
  end
  return answer
end

-- The live sessions of an account beside this one, the oldest first. What has ended by time goes.
local function beside(owner, id)
  local live = {}
  for _, other in ipairs(redis.call('ZRANGE', owner, 0, -1)) do
    if other ~= id then
      if when_ends(other) > now and redis.call('EXISTS', base .. ':i:' .. other) == 1 then
        live[#live + 1] = other
      else
        finish(other)
        redis.call('ZREM', owner, other)
      end
    end
  end
  return live
end

-- Whether this Redis can be written: a replica, or one that cannot save, says no. Nothing is.
if verb == 'beat' then
  return redis.call('DEL', base .. ':beat')
end

-- Writes something, whatever is full: what replicas have of it says what they have of all before. Answers whether ARGV[3] was
-- there, which is how two connections find out that they lead to one server.
if verb == 'mark' then
  local key = base .. ':mark:' .. ARGV[3]
  local was = redis.call('DEL', key)
  redis.call('SET', key, '1', 'PX', '60000')
  return was
end

-- Which master key sessions are sealed under here. ARGV[3]: ours, ARGV[4]: the older one of ours in whose place it comes.
if verb == 'key' then
  local known = redis.call('GET', base .. ':key')
  if not known or known == ARGV[4] then
    redis.call('SET', base .. ':key', ARGV[3])
    return ARGV[3]
  end
  return known
end

-- ARGV[3..]: the places of one secret, under every master key.
if verb == 'find' then
  for index = 3, #ARGV do
    local found = read(ARGV[index])
    if found ~= nil then
      return found
    end
  end
  return false
end

-- ARGV[3..]: public ids.
if verb == 'live' then
  local answer = {}
  for index = 3, #ARGV do
    local place = redis.call('GET', base .. ':i:' .. ARGV[index])
    local found = place and read(place)
    if found then
      answer[#answer + 1] = found
    end
  end
  return answer
end

-- The public ids of an account's sessions, or of all (ARGV[3] is empty).
if verb == 'ids' then
  if ARGV[3] ~= '' then
    return redis.call('ZRANGE', base .. ':a:' .. ARGV[3], 0, -1)
  end
  return redis.call('ZRANGE', ends_key, 0, -1)
end

if verb == 'count' then
  return redis.call('ZCOUNT', ends_key, '(' .. ARGV[2], '+inf')
end

-- ARGV[11]: what its provider is shown at sign-out, or nothing. ARGV[12]: how many of an account there may be. ARGV[13]: there
-- where the oldest of those that are too many are named alone, and end when this one is kept.
if verb == 'create' then
  local place, id, account, provider = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  local record, touch, ends, idle_end, max = ARGV[7], ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[12])
  -- Whoever wanted it was told that there is none, and it takes nobody's place.
  if is_closed(place) then
    return redis.error_reply('ERR taken back')
  end
  local owner = base .. ':a:' .. account
  local live, oldest = beside(owner, id), {}
  for index = 1, #live + 1 - max do
    oldest[index] = live[index]
  end
  local answer = ARGV[13] and oldest or finish_all(oldest)
  local whole = tonumber(ends) - now + SLACK
  local ttl = string.format('%.0f', math.min(tonumber(idle_end), tonumber(ends)) - now + SLACK)
  local key = base .. ':s:' .. place
  redis.call('HSET', key, 'record', record, 'touch', touch, 'account', account, 'provider', provider, 'end', ends)
  redis.call('PEXPIRE', key, ttl)
  redis.call('SET', base .. ':i:' .. id, place, 'PX', ttl)
  redis.call('ZADD', ends_key, string.format('%.0f', math.min(tonumber(idle_end), tonumber(ends))), id)
  redis.call('ZADD', owner, ARGV[2], id)
  keep(ends_key, whole)
  keep(owner, whole)
  if ARGV[11] ~= '' then
    redis.call('SET', base .. ':h:' .. id, ARGV[11], 'PX', string.format('%.0f', whole))
  end
  if provider ~= '' then
    redis.call('SADD', base .. ':p:' .. provider, id)
    keep(base .. ':p:' .. provider, whole)
  end
  return answer
end

-- Nobody came to hold the session of the id ARGV[4], which would end at ARGV[5]: it ends, and where the question that makes it
-- is under way still, its place, ARGV[3], is closed to it.
if verb == 'take_back' then
  finish_aloud(ARGV[4])
  close(ARGV[3], ARGV[5])
  return 1
end

-- ARGV[3]: account, ARGV[4]: the id of what it has just got, ARGV[5]: how many of it there may be, ARGV[6..]: those that were
-- the oldest of too many beside it when it was made. Ends as many of these as are too many still.
if verb == 'displace' then
  -- Another sign-in may have taken its place already: then it takes nobody's.
  if redis.call('EXISTS', base .. ':i:' .. ARGV[4]) == 0 then
    return {}
  end
  local live, is_live, oldest = beside(base .. ':a:' .. ARGV[3], ARGV[4]), {}, {}
  for _, other in ipairs(live) do
    is_live[other] = true
  end
  local excess = #live + 1 - tonumber(ARGV[5])
  for index = 6, #ARGV do
    if #oldest < excess and is_live[ARGV[index]] then
      oldest[#oldest + 1] = ARGV[index]
    end
  end
  return finish_all(oldest)
end

-- ARGV[3]: place, ARGV[4]: id, ARGV[5]: the last use that was read, ARGV[6]: this one, ARGV[7]: when it is idle too long.
if verb == 'touch' then
  local place, id, idle_end = ARGV[3], ARGV[4], tonumber(ARGV[7])
  local key = base .. ':s:' .. place
  local found = redis.call('HMGET', key, 'touch', 'end')
  if not found[1] or is_closed(place) or string.sub(found[1], 1, 8) ~= ARGV[5] then
    return 0
  end
  local until_then = math.min(idle_end, tonumber(found[2] or '') or now)
  local ttl = string.format('%.0f', math.max(0, until_then - now) + SLACK)
  -- A memory that is full refuses a script its first write if that takes memory, and none after another: so a use is noted
  -- there, too, and nobody in use is signed out.
  redis.call('PEXPIRE', key, ttl)
  redis.call('PEXPIRE', base .. ':i:' .. id, ttl)
  redis.call('HSET', key, 'touch', ARGV[6])
  redis.call('ZADD', ends_key, 'XX', string.format('%.0f', until_then), id)
  return 1
end

-- What the provider of the session ARGV[3] is shown at sign-out.
if verb == 'hint' then
  return redis.call('GET', base .. ':h:' .. ARGV[3])
end

-- Keeps ARGV[4] in its place, for as long as the session ARGV[3] is there.
if verb == 'replace_hint' then
  local place = redis.call('GET', base .. ':i:' .. ARGV[3])
  local ends = place and redis.call('HGET', base .. ':s:' .. place, 'end')
  if not ends then
    return 0
  end
  local left = math.max(0, tonumber(ends) - now) + SLACK
  redis.call('SET', base .. ':h:' .. ARGV[3], ARGV[4], 'PX', string.format('%.0f', left))
  return 1
end

if verb == 'end' then
  local ended = finish_aloud(ARGV[3])
  return ended and ended[2] and ended or false
end

-- ARGV[3]: the account. Without more, all of it; else what goes back to one of these provider's sessions, or to none.
if verb == 'end_account' then
  local ids = redis.call('ZRANGE', base .. ':a:' .. ARGV[3], 0, -1)
  if #ARGV > 3 then
    local wanted, chosen = { [''] = true }, {}
    for index = 4, #ARGV do
      wanted[ARGV[index]] = true
    end
    for _, id in ipairs(ids) do
      local place = redis.call('GET', base .. ':i:' .. id)
      local provider = place and redis.call('HGET', base .. ':s:' .. place, 'provider')
      if provider and wanted[provider] then
        chosen[#chosen + 1] = id
      end
    end
    ids = chosen
  end
  return finish_all(ids)
end

-- ARGV[3..]: a session of a provider, under every master key.
if verb == 'end_provider' then
  local answer = {}
  for index = 3, #ARGV do
    for _, ended in ipairs(finish_all(redis.call('SMEMBERS', base .. ':p:' .. ARGV[index]))) do
      answer[#answer + 1] = ended
    end
  end
  return answer
end

-- Removes what has ended by time, up to ARGV[3] of it, and tells nobody.
if verb == 'sweep' then
  local ids = redis.call('ZRANGEBYSCORE', ends_key, '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
  for _, id in ipairs(ids) do
    finish(id)
  end
  return #ids
end

return redis.error_reply('ERR unknown verb')
