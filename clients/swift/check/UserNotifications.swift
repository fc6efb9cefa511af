// The part of Apple's UserNotifications that the extension uses, for a compiler on Linux.

@_exported import Foundation
open class UNNotificationContent: NSObject {
    public var userInfo: [AnyHashable: Any] = [:]
    open override func mutableCopy() -> Any { UNMutableNotificationContent() }
}
public enum UNNotificationInterruptionLevel { case passive, active }
public class UNNotificationSound: NSObject {}
public final class UNMutableNotificationContent: UNNotificationContent {
    public var sound: UNNotificationSound?
    public var interruptionLevel: UNNotificationInterruptionLevel = .active
}
public class UNNotificationRequest: NSObject { public var content = UNNotificationContent() }
open class UNNotificationServiceExtension: NSObject {
    open func didReceive(_ request: UNNotificationRequest, withContentHandler contentHandler: @escaping (UNNotificationContent) -> Void) {}
    open func serviceExtensionTimeWillExpire() {}
}
