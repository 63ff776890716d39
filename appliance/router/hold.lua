-- Holds a request that finds no ready server, until there is one or its time is up.
-- txn.hold_s: seconds it may wait. txn.held: milliseconds it has waited. txn.late: there when its time was up.
-- txn.moved: there when its route came to an end or went elsewhere: servers of this slot are not for it any more.
-- Whoever makes servers is told on a socket, at most once a second for each route; nobody there is no error.
-- Nothing is counted here: a client that goes away ends its coroutine without a word.
local knocks = "unix@" .. (os.getenv("APPLIANCE_KNOCKS") or "")
local routes = Map.new("routes.map", Map._str)
local told = {}

local function knock(route, second)
  if told[route] == second then return end
  told[route] = second
  local socket = core.tcp()
  socket:settimeout(1)
  if socket:connect(knocks) then socket:send(route .. "\n") end
  socket:close()
end

-- In a process that was replaced, no server counts as ready and none will come.
local function replaced(txn)
  local answer = txn.f:stopping()
  return answer == true or answer == 1
end

core.register_action("hold", {"http-req"}, function(txn)
  local began = core.now()
  local most = tonumber(txn:get_var("txn.hold_s")) or 20
  local route = txn:get_var("txn.route") or ""
  local slot = (txn:get_var("txn.entry") or ""):match("^[^/]*") .. "/"
  local function ours()
    local entry = routes:lookup(route)
    return entry ~= nil and entry:sub(1, #slot) == slot
  end
  local function waited()
    local now = core.now()
    local ms = (now.sec - began.sec) * 1000 + math.floor((now.usec - began.usec) / 1000)
    txn:set_var("txn.held", ms)
    return ms, now.sec
  end
  while tonumber(txn.f:nbsrv()) == 0 and not replaced(txn) do
    local ms, second = waited()
    if not ours() then break end
    if ms >= most * 1000 then
      txn:set_var("txn.late", 1)
      return
    end
    knock(route, second)
    core.msleep(ms < 10000 and 25 or 100)
  end
  waited()
  -- asked after the server was seen: the slot is given to another route only when this one has left it
  if not ours() then txn:set_var("txn.moved", 1) end
end, 0)
