-- Takes from all limits of a request, or from none: what engine/src/limit.rs and window.rs do, beside the keys.
--
-- KEYS: one for each limit; the same one may come twice. ARGV[1]: numbers, as doubles with the little end first. Of all:
-- milliseconds since 1970, or less than nothing for this server's own time, and of how many equal parts of what is left
-- one may be leased. Then twelve for each key. Of a rate, in nanoseconds: what is wanted, the burst, the farthest that a
-- state may lie ahead, nothing, and what the gateway has counted by itself and nobody here knows of yet. Of a sliding
-- window: what is wanted, the limit, nothing, the milliseconds of a part, and nothing. Of both: how many to lease
-- besides, and how much one is; when what is left of an earlier lease and comes back was leased, in milliseconds since
-- 1970, or less than nothing, and how much it is; the milliseconds of the period; for how many the limit has been what it
-- is, or less than nothing; and whether it is only tried out: those are taken from where all others let the request
-- through, each for itself. Then in ARGV for each window what the gateway has counted of it, as `milliseconds of the
-- newest part that have passed:counts, the newest first`.
--
-- Answers with numbers of the same kind: the limit that refuses (1 is the first, 0 none), milliseconds until it would
-- admit, and the time; then for each key how far its state lies ahead of now, in nanoseconds; or how much of the newest
-- part has passed, and the counts; then for each key how many were leased; and then for each whether it would have
-- refused, and is only tried out. The last two are left out where they would say nothing.
--
-- A number here is a double, exact below 2^53. Nanoseconds since 1970 are past that, so a state is kept as milliseconds
-- and the nanoseconds within, and reckoned with as its distance from now, which is below 2^51 (the caller sees to it).
--
-- Beside a state stand the period that it was reckoned with, since when (by this server's clock) its limit is what it
-- is, and when it was written. A take of a limit that is newer makes the state its own: the part that was spent when the limit became another
-- is spent of that. A take of one that is older, of a gateway that has not heard of the new one yet, is let through by
-- the part that is spent now, adds its own part, and leaves the state to the newer one.
local NS = 1000000
local COUNTED = 21
local HEAD = '<dd'
local EACH = '<dddddddddddd'

local now, parts, from = struct.unpack(HEAD, ARGV[1])
local given = now >= 0
if not given then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- What stands under a key: false for nothing, no text for what is no state of ours; or an error.
local function text_of(key)
  local text = redis.pcall('GET', key)
  if type(text) ~= 'table' then
    return text
  end
  if string.find(text['err'], 'WRONGTYPE', 1, true) then
    return ''
  end
  return nil, text
end

-- How far the state of a rate lies ahead (below nothing where it is past), its period, since when that holds and when
-- it was written; or nothing where it cannot be read. A state may be without the last three.
local function ahead_of(text)
  if text == false then
    return 0
  end
  local ms, ns, rest = string.match(text, '^(%d+)%.(%d%d%d%d%d%d)(.*)$')
  local period, since, written = string.match(rest or '', '^:(%d+):(%d+):(%d+)$')
  period = tonumber(period)
  if not ms or (rest ~= '' and not (period and period > 0)) then
    return nil
  end
  return (tonumber(ms) - now) * NS + tonumber(ns), period, tonumber(since), tonumber(written)
end

-- The same part of another period, rounded up, or down. Exact for periods up to a day: nothing that is multiplied or
-- added is past 2^53.
local function rescaled(ahead, from, into, down)
  if from == into then
    return ahead
  end
  local rest = ahead % from
  local part = rest * into
  local over = part % from
  return (ahead - rest) / from * into + (part - over) / from + ((over > 0 and not down) and 1 or 0)
end

-- How far a state lies ahead by a limit that has held since then, where its own was another before: it was spent by its
-- own until then, or until it was written by whoever had not heard of the new one, and has come back by the new one since.
local function become(ahead, from, into, since, written)
  local past = math.max(0, now - math.max(since, written)) * NS
  return math.max(0, rescaled(math.max(0, ahead + past), from, into) - past)
end

local function empty()
  local counts = {}
  for part = 1, COUNTED do
    counts[part] = 0
  end
  return counts
end

-- The counts of a window, the width of their parts, since when that holds, and whether a clock that went back has left
-- them ahead of now; or nothing where they cannot be read.
local function counts_of(text)
  local wide, newest, list, rest = string.match(text, '^w(%d+):(%d+):([%d,]*)(.*)$')
  wide = tonumber(wide)
  local since = tonumber(string.match(rest or '', '^:(%d+)$'))
  if not wide or wide == 0 or (rest ~= '' and not since) then
    return nil
  end
  local counts = empty()
  local newer = math.floor(now / wide) - tonumber(newest)
  local passed = math.max(0, newer)
  for count in string.gmatch(list, '%d+') do
    passed = passed + 1
    if passed <= COUNTED then
      counts[passed] = tonumber(count)
    end
  end
  return counts, wide, since, newer < 0
end

local function spent(counts)
  local sum = 0
  for part = 1, COUNTED do
    sum = sum + counts[part]
  end
  return sum
end

-- Counts of their own in parts of this width. Of another width, all that still counts is new.
local function in_parts(counts, wide, width)
  if wide == width then
    return { unpack(counts) }
  end
  local new = empty()
  new[1] = spent(counts)
  return new
end

-- Counts in parts of this width, of a limit that has held since then: all that counted then was admitted then, and what
-- was admitted later is new.
local function folded(counts, wide, width, since)
  local new, part = empty(), math.max(1, math.floor(now / width) - math.floor(since / width) + 1)
  for at = 1, COUNTED do
    local began = (math.floor(now / wide) - at + 1) * wide
    local into = began > since and 1 or part
    if into <= COUNTED then
      new[into] = new[into] + counts[at]
    end
  end
  return new
end

-- In each part the larger. Where less of it has passed at the gateway than here, its parts count as one newer.
local function merge(counts, owed, width)
  local passed, list = string.match(owed, '^(%d+):([%d,]*)$')
  local theirs, part = {}, now % width > (tonumber(passed) or 0) and 0 or 1
  for count in string.gmatch(list or '', '%d+') do
    local at = math.max(1, part)
    theirs[at] = (theirs[at] or 0) + tonumber(count)
    part = part + 1
  end
  local news = false
  for at = 1, COUNTED do
    if (theirs[at] or 0) > counts[at] then
      counts[at], news = theirs[at], true
    end
  end
  return news
end

-- Milliseconds until so much of a window has left.
local function wait_of(counts, over, width)
  local part = COUNTED
  over = over - counts[part]
  while over > 0 and part > 1 do
    part = part - 1
    over = over - counts[part]
  end
  return (math.floor(now / width) - part + 1 + COUNTED) * width - now
end

-- Takes what comes back of a window's lease out of the part that it was counted in. Whether there was any.
local function bring_back(counts, wide, granted, amount)
  local part = math.floor(now / wide) - math.floor(granted / wide) + 1
  if part < 1 or part > COUNTED or counts[part] == 0 then
    return false
  end
  counts[part] = math.max(0, counts[part] - amount)
  return true
end

local base, state, write = {}, {}, {}
-- Of rates, the period that a state is reckoned with; of windows alone, the width of the parts that a base and a state
-- are counted in; of both, since when that holds.
local period, base_width, width, held = {}, {}, {}, {}

-- What is told of each limit.
local asked, windows = {}, 0
for index in ipairs(KEYS) do
  local one = {}
  one.wanted, one.burst, one.full, one.wide, one.owed, one.lease, one.each, one.granted, one.amount, one.period, one.age,
    one.tried, from = struct.unpack(EACH, ARGV[1], from)
  if one.wide > 0 then
    windows = windows + 1
    one.owed = ARGV[1 + windows]
  end
  one.age = one.age >= 0 and one.age or nil
  one.tried = one.tried ~= 0
  asked[index] = one
end

-- Finds what stands under the key of a rate, makes it that of this take where the take's limit is not the older one, and
-- merges what the gateway tells.
local function rate_of(key, text, one)
  local own, age, farthest, owed = one.period, one.age, one.full, one.owed
  local ahead, from, since, written = ahead_of(text)
  -- What cannot be read counts as spent: it lets nobody in, and is gone after a period.
  local kept = ahead and math.max(0, ahead) or farthest
  write[key] = ahead == nil
  period[key], held[key] = from, since
  if age and (from == nil or from == own) then
    period[key], held[key] = own, math.max(since or 0, now - age)
  elseif age and now - age > since then
    kept = become(ahead, from, own, now - age, written)
    period[key], held[key], write[key] = own, now - age, true
  end
  local is_older = age and period[key] ~= own
  -- Farther ahead than the whole burst lies only what a clock that went back has left, or a limit of unknown period.
  if kept > farthest and not is_older then
    kept, write[key] = farthest, true
  end
  owed = is_older and rescaled(owed, own, period[key]) or owed
  if owed > kept then
    kept, write[key] = owed, true
  end
  if one.granted >= 0 and ahead and kept > 0 then
    local amount = is_older and rescaled(one.amount, own, period[key], true) or one.amount
    kept, write[key] = math.max(0, kept - amount), true
  end
  base[key], state[key] = kept, kept
end

-- The same of a window.
local function window_of(key, text, one)
  local own, age, owed = one.wide, one.age, one.owed
  local counts, wide, since, is_ahead
  if text ~= false then
    counts, wide, since, is_ahead = counts_of(text)
  end
  write[key] = text ~= false and (counts == nil or is_ahead)
  if counts == nil then
    counts, wide = empty(), own
    counts[1] = write[key] and one.burst or 0
  end
  if one.granted >= 0 and bring_back(counts, wide, one.granted, one.amount) then
    write[key] = true
  end
  held[key] = since
  if age and wide == own then
    held[key] = math.max(since or 0, now - age)
  elseif age and now - age > (since or 0) then
    counts, wide = folded(counts, wide, own, now - age), own
    held[key], write[key] = now - age, true
  end
  if age and wide ~= own then
    local theirs = empty()
    merge(theirs, owed, own)
    if spent(theirs) > spent(counts) then
      counts[1], write[key] = counts[1] + spent(theirs) - spent(counts), true
    end
  else
    local merged = in_parts(counts, wide, own)
    if merge(merged, owed, own) then
      counts, wide, write[key] = merged, own, true
    end
  end
  base[key], base_width[key], state[key], width[key] = counts, wide, counts, wide
end

-- Takes from one limit. Milliseconds until it would admit, or a number below nothing where it does.
local function take(one, key)
  local wanted, burst, own = one.wanted, one.burst, one.wide
  if own > 0 then
    local counts = in_parts(state[key], width[key], own)
    local over = spent(counts) + wanted - burst
    if over > 0 then
      return wait_of(counts, over, own)
    end
    if one.age and width[key] ~= own then
      state[key] = { unpack(state[key]) }
      state[key][1] = state[key][1] + wanted
    else
      counts[1] = counts[1] + wanted
      state[key], width[key] = counts, own
    end
    return -1
  end
  own = one.period
  local kept = one.age and period[key] or own
  local ahead = math.min(rescaled(state[key], kept, own), one.full)
  local over = ahead + wanted - burst
  if over > 0 then
    local part = over % NS
    return (over - part) / NS + (part > 0 and 1 or 0)
  end
  state[key] = rescaled(ahead + wanted, own, kept)
  return -1
end

for index, key in ipairs(KEYS) do
  if base[key] == nil then
    local text, fault = text_of(key)
    if fault then
      return fault
    end
    if asked[index].wide > 0 then
      window_of(key, text, asked[index])
    else
      rate_of(key, text, asked[index])
    end
  end
end

local refused, longest = 0, -1
for index, key in ipairs(KEYS) do
  local wait = asked[index].tried and -1 or take(asked[index], key)
  if wait > longest then
    refused, longest = index, wait
  end
end
local over = {}
for index, key in ipairs(KEYS) do
  over[index] = (asked[index].tried and refused == 0 and take(asked[index], key) >= 0) and 1 or 0
end

-- Whether a limit is an older one than its state is kept by.
local function is_older(one, key)
  local own = width[key] and one.wide or one.period
  return one.age and (width[key] or period[key]) ~= own
end

-- Something ahead, where nothing was refused: no more than a part of what is left, so that it is less and less towards the
-- end, and nothing at the end. Of a limit that is no longer nothing.
local leased, says_more = {}, false
for index, key in ipairs(KEYS) do
  leased[index] = 0
  local one = asked[index]
  if refused == 0 and over[index] == 0 and one.lease > 0 and not is_older(one, key) then
    local left = one.burst - (width[key] and spent(state[key]) or state[key])
    local count = math.max(0, math.min(one.lease, math.floor(left / (one.each * parts))))
    leased[index] = count
    if width[key] then
      state[key][1] = state[key][1] + count
    else
      state[key] = state[key] + count * one.each
    end
  end
  says_more = says_more or leased[index] > 0 or over[index] > 0
end

-- Once its time is past a state says nothing. Where the time is given, it is not the time that keys end by.
local function keep(key, text, ends)
  redis.call('SET', key, text, 'PX', string.format('%.0f', ends + (given and 3600000 or 0)))
end

-- A request that is refused spends nothing; what is merged stays merged, and what has become another limit's stays that.
local answer = { refused, math.max(0, longest), now }
local function say(number)
  answer[#answer + 1] = number
end
for index, key in ipairs(KEYS) do
  local one, writes = asked[index], refused == 0 or write[key]
  if width[key] then
    local counts, wide = base[key], base_width[key]
    if refused == 0 then
      counts, wide = state[key], width[key]
    end
    if writes and (spent(counts) > 0 or write[key]) then
      local passed = now % wide
      local since = held[key] and string.format(':%.0f', held[key]) or ''
      local text = string.format('w%.0f:%.0f:%s', wide, (now - passed) / wide, table.concat(counts, ','))
      keep(key, text .. since, COUNTED * wide - passed)
    end
    say(now % one.wide)
    for _, count in ipairs(in_parts(counts, wide, one.wide)) do
      say(count)
    end
  else
    local ahead = refused == 0 and state[key] or base[key]
    say(math.min(is_older(one, key) and rescaled(ahead, period[key], one.period) or ahead, one.full))
    if writes and (ahead > 0 or write[key]) then
      local part = ahead % NS
      local whole = (ahead - part) / NS
      local beside = period[key] and string.format(':%.0f:%.0f:%.0f', period[key], held[key], now) or ''
      keep(key, string.format('%.0f.%06.0f', now + whole, part) .. beside, whole + 1)
    end
  end
end
if says_more then
  for _, list in ipairs({ leased, over }) do
    for _, number in ipairs(list) do
      say(number)
    end
  end
end
return struct.pack('<' .. string.rep('d', #answer), unpack(answer))
