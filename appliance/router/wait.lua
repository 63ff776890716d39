-- Holds a push that found no daemon until one takes connections again, or its time is up; then it goes on as it may.
-- A refused connection to a unix socket is tried again at once and not after a second, so HAProxy itself cannot wait.
local pushes = "unix@" .. (os.getenv("APPLIANCE_PUSHES") or "")
local most = tonumber(os.getenv("APPLIANCE_PUSHES_WAIT_S")) or 25

core.register_action("wait", {"http-req"}, function(txn)
  local began = core.now().sec
  while core.now().sec - began < most do
    local socket = core.tcp()
    socket:settimeout(1)
    local there = socket:connect(pushes)
    socket:close()
    if there then return end
    core.msleep(200)
  end
end, 0)
