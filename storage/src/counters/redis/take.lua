-- Takes from all limits of a request, or from none: what engine/src/limit.rs and window.rs do, beside the keys.
--
-- KEYS: one for each limit; the same one may come twice. ARGV[1]: milliseconds since 1970, or nothing for this
-- server's own time. ARGV[2]: of how many equal parts of what is left one may be leased. Then six for each key. Of a
-- rate, in nanoseconds: what is wanted, the burst, the farthest that a state may lie ahead, and what the gateway has
-- counted by itself and nobody here knows of yet. Of a sliding window: what is wanted, the limit, the milliseconds of a
-- part with a minus before them, and what the gateway has counted, as `milliseconds of the newest part that have
-- passed:counts, the newest first`. Of both: what to lease besides, as `how many:how much one is`, and what is left of
-- an earlier lease and comes back, as `milliseconds since 1970 at which it was leased:how much`; or nothing.
--
-- Answers: the limit that refuses (1 is the first, 0 none), milliseconds until it would admit, and the time; then for
-- each key how far its state lies ahead of now, in nanoseconds; or a list of how much of the newest part has passed, and
-- counts; and then for each key how many were leased.
--
-- A number here is a double, exact below 2^53. Nanoseconds since 1970 are past that, so a state is kept as milliseconds
-- and the nanoseconds within, and reckoned with as its distance from now, which is below 2^51 (the caller sees to it).
local NS = 1000000
local COUNTED = 21

local now = tonumber(ARGV[1])
local given = now ~= nil
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

-- How far the state of a rate lies ahead, or nothing where it cannot be read.
local function ahead_of(text)
  if text == false then
    return 0
  end
  local ms, ns = string.match(text, '^(%d+)%.(%d%d%d%d%d%d)$')
  return ms and math.max(0, (tonumber(ms) - now) * NS + tonumber(ns))
end

local function empty()
  local counts = {}
  for part = 1, COUNTED do
    counts[part] = 0
  end
  return counts
end

-- The counts of a window and the width of their parts, or nothing where they cannot be read.
local function counts_of(text)
  local wide, newest, list = string.match(text, '^w(%d+):(%d+):([%d,]*)$')
  wide = tonumber(wide)
  if not wide or wide == 0 then
    return nil
  end
  local counts = empty()
  local passed = math.max(0, math.floor(now / wide) - tonumber(newest))
  for count in string.gmatch(list, '%d+') do
    passed = passed + 1
    if passed <= COUNTED then
      counts[passed] = tonumber(count)
    end
  end
  return counts, wide
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

-- Numbers with a colon between them; none where there is nothing.
local function pair(text)
  local first, second = string.match(text, '^(%d+):(%d+)$')
  return tonumber(first), tonumber(second)
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

local base, state, full, bursts, write = {}, {}, {}, {}, {}
-- Of windows alone: the width of the parts that a base and a state are counted in.
local base_width, width = {}, {}
local refused, longest = 0, -1
for index, key in ipairs(KEYS) do
  local at = index * 6 - 3
  local wanted, burst, owed = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 3]
  bursts[index] = burst
  -- Farther ahead than the whole burst lies only what a clock that went back, or a wider limit, has left.
  full[index] = tonumber(ARGV[at + 2])
  local slides = full[index] < 0
  if base[key] == nil then
    local text, fault = text_of(key)
    if fault then
      return fault
    end
    local granted, amount = pair(ARGV[at + 5])
    -- What cannot be read counts as spent: it lets nobody in, and is gone after a period.
    if slides then
      local counts, wide
      if text ~= false then
        counts, wide = counts_of(text)
      end
      write[key] = text ~= false and counts == nil
      if counts == nil then
        counts, wide = empty(), -full[index]
        counts[1] = write[key] and burst or 0
      end
      local merged = in_parts(counts, wide, -full[index])
      -- Told by a gateway of which the limit has become another, it is kept as that, also where it is refused: by the old
      -- width it would be forgotten sooner.
      local becomes = wide ~= -full[index] and string.find(owed, ':%d')
      if merge(merged, owed, -full[index]) or becomes then
        counts, wide, write[key] = merged, -full[index], true
      end
      if granted and wide == -full[index] and bring_back(counts, wide, granted, amount) then
        write[key] = true
      end
      base[key], base_width[key], state[key], width[key] = counts, wide, counts, wide
    else
      local found = ahead_of(text)
      local kept = found or full[index]
      write[key] = found == nil or tonumber(owed) > kept
      base[key] = math.max(kept, tonumber(owed))
      if granted and found and base[key] > 0 then
        base[key], write[key] = math.max(0, base[key] - amount), true
      end
      state[key] = base[key]
    end
  end
  local wait = -1
  if slides then
    local counts = in_parts(state[key], width[key], -full[index])
    local over = spent(counts) + wanted - burst
    if over <= 0 then
      counts[1] = counts[1] + wanted
      state[key], width[key] = counts, -full[index]
    else
      wait = wait_of(counts, over, -full[index])
    end
  else
    local ahead = math.min(state[key], full[index])
    local over = ahead + wanted - burst
    if over <= 0 then
      state[key] = ahead + wanted
    else
      local part = over % NS
      wait = (over - part) / NS + (part > 0 and 1 or 0)
    end
  end
  if wait > longest then
    refused, longest = index, wait
  end
end

-- Something ahead, where nothing was refused: no more than a part of what is left, so that it is less and less towards the
-- end, and nothing at the end.
local leased = {}
for index, key in ipairs(KEYS) do
  leased[index] = 0
  local count, each = pair(ARGV[index * 6 + 1])
  if refused == 0 and count then
    local left = bursts[index] - (width[key] and spent(state[key]) or state[key])
    count = math.max(0, math.min(count, math.floor(left / (each * tonumber(ARGV[2])))))
    leased[index] = count
    if width[key] then
      state[key][1] = state[key][1] + count
    else
      state[key] = state[key] + count * each
    end
  end
end

-- Once its time is past a state says nothing. Where the time is given, it is not the time that keys end by.
local function keep(key, text, ends)
  redis.call('SET', key, text, 'PX', string.format('%.0f', ends + (given and 3600000 or 0)))
end

-- A request that is refused spends nothing; what is merged stays merged.
local answer = { refused, longest, now }
for index, key in ipairs(KEYS) do
  local writes = refused == 0 or write[key]
  if width[key] then
    local counts, wide = base[key], base_width[key]
    if refused == 0 then
      counts, wide = state[key], width[key]
    end
    local passed = now % wide
    if writes and (spent(counts) > 0 or write[key]) then
      local text = string.format('w%.0f:%.0f:%s', wide, (now - passed) / wide, table.concat(counts, ','))
      keep(key, text, COUNTED * wide - passed)
    end
    answer[index + 3] = { passed, unpack(counts) }
  else
    local ahead = refused == 0 and state[key] or math.min(base[key], full[index])
    answer[index + 3] = ahead
    if writes and (ahead > 0 or write[key]) then
      local part = ahead % NS
      local whole = (ahead - part) / NS
      keep(key, string.format('%.0f.%06.0f', now + whole, part), whole + 1)
    end
  end
end
for index in ipairs(KEYS) do
  answer[#KEYS + 3 + index] = leased[index]
end
return answer
